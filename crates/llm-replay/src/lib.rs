//! Records conversations with an OpenAI-compatible model into files that a person can review, and
//! replays them: the same agent run, any number of times, without a model.
//!
//! - [`Recording`] is the file format: one conversation a file, messages in order. A recording says
//!   itself whether a model gave the answers or a person wrote them ([`Origin`]).
//! - [`ReplayServer`] serves `/v1/chat/completions` and `/v1/models` from recordings, streaming and
//!   not. A request that no recording answers gets status 422 with the nearest recording and the
//!   first difference.
//! - [`RecordServer`] forwards to an upstream and keeps what was said. No header is ever recorded,
//!   and the upstream's key is cut out of every text ([`Redactor`]).
//!
//! # What matters in a match
//! User messages (white space aside, `{{name}}` in a recording matches any text and remembers it),
//! the order of turns, the tools that the assistant called with their arguments. What does not: the
//! system prompt, the tool definitions, sampling settings, the model's name (unless the recording
//! names one) and what a tool answered, unless the recording holds a pattern for it.

mod access;
mod error;
mod matching;
mod openai;
mod record;
mod recording;
mod redact;
mod replay;
mod template;

pub use crate::{
    error::{Error, Result},
    matching::{Library, Miss},
    record::{RecordConfig, RecordServer},
    recording::{
        Answer, Entry, Failure, Origin, OriginKind, Recording, ToolCall, ToolResult, Usage,
    },
    redact::Redactor,
    replay::{ReplayConfig, ReplayServer},
};
