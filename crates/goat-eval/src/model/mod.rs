//! The model: OpenAI-compatible chat completions, streamed.
//!
//! [`ModelClient::complete`] asks once and answers with a whole [`Completion`]; retries happen inside. What is
//! sent is `request`, what comes back is read by `receive` and `sse` and put together by `assemble`.

mod assemble;
mod client;
mod dialect;
mod error;
pub(crate) mod hosts;
mod lenient;
mod message;
pub mod price;
pub mod profile;
mod receive;
mod refusal;
pub mod repair;
mod request;
mod retry;
mod shape;
pub mod sizes;
mod sse;
mod text_calls;
mod unpack;
mod wording;

pub use client::{ModelClient, Notice};
pub use error::ModelError;
pub use message::{CallKind, Completion, Function, Message, ToolCall, Usage};
pub use refusal::TooLong;
pub use request::{ChatRequest, MAX_TOKENS, ToolDefinition};
pub use retry::ATTEMPTS;
