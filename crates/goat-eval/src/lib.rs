//! The headless coding agent that runs inside a sandbox.
//!
//! A prompt goes in, a model behind an OpenAI-compatible endpoint works on it with the tools of [`tool`], and the
//! last answer comes out on stdout. Everything on the way is in the [`transcript`], the end of it in the [`summary`].
//!
//! Start with [`run()`]: it composes the parts. The order of things in a run:
//!
//! 1. [`hardening`] takes the keys out of the process's environment, before any thread or tool exists.
//! 2. [`cli`] and [`settings`] say what to do; a mistake ends with [`exit_code::BAD_FLAG`] or [`exit_code::USAGE`].
//! 3. [`agent::Session`] alternates between the [`model`] and the tools until there is an answer.
//! 4. Whatever the end (answer, error, time-out, signal), every process that a tool started is stopped, and
//!    transcript and summary are complete.
//!
//! More tools are more implementations of [`tool::Tool`] in a [`tool::Registry`]; [`skills`] and [`mcp`] servers
//! bring some.

pub mod agent;
pub mod cli;
mod clock;
pub mod error;
pub mod exit_code;
pub mod hardening;
pub mod mcp;
pub mod model;
pub mod progress;
pub mod prompt;
mod prompts;
pub mod run;
pub mod secret;
pub mod settings;
pub mod skills;
pub mod summary;
pub mod tool;
pub mod trace;
pub mod transcript;

pub use error::{Error, Result};
pub use run::run;
