//! The model: OpenAI-compatible chat completions, streamed.
//!
//! [`ModelClient::complete`] asks once and answers with a whole [`Completion`]; retries happen inside. What is
//! sent is `request`, what comes back is read by `sse` and put together by `assemble`.

mod assemble;
mod client;
mod error;
mod hosts;
mod message;
pub mod profile;
mod request;
mod retry;
mod sse;

pub use client::{ModelClient, Retried};
pub use error::ModelError;
pub use message::{CallKind, Completion, Function, Message, ToolCall, Usage};
pub use request::{ChatRequest, MAX_TOKENS, ToolDefinition};
pub use retry::ATTEMPTS;
