//! Everything that happens in a run, as JSON lines: enough to replay it without the model.
//!
//! Each line is written with one call as soon as it is known, so that a killed run leaves whole lines. Secrets
//! that the agent took from its environment are masked in every line.
//!
//! # Lines
//! A line is one JSON object with `time` (UTC, RFC 3339, milliseconds) and `event`; the rest of its fields are those
//! of the [`Event`] of that name. Readers skip events and fields that they do not know; a field that is not there
//! is null, empty or false.
//!
//! | event | when |
//! |---|---|
//! | `start` | first line: version, model, limits, system prompt's hash |
//! | `skills`, `tools` | what is offered from here on; `tools` holds every definition |
//! | `message` | instructions, prompts, and what the model said, exactly |
//! | `request` | a request goes out: all its parameters, and the hash of its whole body |
//! | `retry`, `adapted` | it failed and is made again; it was refused and is made in another form |
//! | `usage` | tokens of one request; `estimated` where the server did not count |
//! | `tool_call`, `tool_result` | arguments as they were understood (and what was mended); what the model is told, and size and hash of all there was |
//! | `compaction`, `summarise` | the conversation was made shorter; a summary was asked for |
//! | `fork` | a skill in a conversation of its own: what follows, up to the call's result, belongs to it |
//! | `prompt_end`, `end` | one of several prompts is done; last line |
//!
//! # The conversation at any moment
//! Start with nothing and go through the lines:
//!
//! 1. A `message` of `system` or `user` is appended. If the last one is an answer of the model with neither text nor
//!    calls, that goes first: it has no place in a conversation.
//! 2. A `message` of `assistant` is appended with its text (null where it is blank; beyond 200,000 characters without
//!    its middle) and its calls. A call's name and arguments are those of the `tool_call` with its id, or `{}` where
//!    these are no JSON object. In the name stands `_` for whatever is no ASCII letter, digit or `-`; it is cut after 64
//!    characters, and `unnamed` where there is none.
//! 3. A `tool_result` is appended as a message of `tool`; those of one message in the order of its calls, whichever was
//!    ready first.
//! 4. A `compaction` changes the content of the messages in `shortened`, and puts one of `user` with `summary` in the
//!    place of as many messages as `replaced` says, after the first.
//! 5. A `summarise` is a message of `user` in the next request alone.
//! 6. After a `fork` the conversation is put aside, with its tools, and another one starts with nothing; the `tool_result`
//!    with the fork's id ends that one and belongs to the one put aside. Ids of calls are unique in a transcript.
//!
//! A `request` sends that conversation, the tools and its `parameters`, whose order is the body's, with `messages` and
//! `tools` after `model`. `body_sha256` is the hash of that body, so a reader can prove that it has understood. After
//! an `adapted` that changes the form of messages (one call a message, tools in the instructions, no system role), the
//! conversation is the same, and only its form in the body another one.
//!
//! Where a secret was masked, a line differs from what was sent, and the hashes tell so.
//!
//! `tests/it/replay.rs` does all this, and lets a model that it makes from a transcript lead to the same calls again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::agent::Shortened;
use crate::{
    clock,
    mcp::News,
    model::{ToolCall, ToolDefinition, Usage},
    secret::Redactor,
    skills::{Problem, Skill},
    summary::Outcome,
    trace::Trace,
};

/// A line's content; `event` tells which it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The first line.
    Start {
        /// [`crate::summary::SCHEMA`].
        schema: u32,
        /// Version of the agent.
        agent_version: String,
        /// The model as it is sent.
        model: String,
        /// The endpoint, without credentials.
        base_url: String,
        /// Which system prompt: the name of its file.
        prompt: String,
        /// SHA-256 of that file, in hex.
        prompt_sha256: String,
        /// The working directory.
        cwd: String,
        /// Turns at most.
        max_turns: u32,
        /// Tokens of the whole run at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u64>,
        /// USD for the whole run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_cost_usd: Option<f64>,
        /// Seconds for the whole run.
        timeout_s: Option<f64>,
        /// The tools at the start, those of MCP servers not among them; [`Event::Tools`] has all, in full.
        tools: Vec<String>,
        /// Version of the built-in system prompt; none for a user's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt_version: Option<u32>,
        /// Whether prompts come one after the other.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        multi_turn: bool,
        /// What every call of the model carries for traces.
        #[serde(default, skip_serializing_if = "Trace::is_empty")]
        trace: Trace,
    },
    /// The skills of `--skills-dir`, and what is wrong with others. A skill's text is the result of its call.
    Skills {
        /// The directory as it was given.
        directory: String,
        /// Those that are offered.
        skills: Vec<Skill>,
        /// What is wrong with others.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        problems: Vec<Problem>,
    },
    /// The tools that the model is offered from the next request on, as they are sent.
    Tools {
        /// The last turn before; 0 before the first request.
        turn: u32,
        /// All of them, in order.
        tools: Vec<ToolDefinition>,
    },
    /// An MCP server was reached, has other tools, or does not work.
    Mcp {
        /// The last turn before; 0 before the first request.
        turn: u32,
        /// Which server, and what is new.
        #[serde(flatten)]
        news: News,
    },
    /// A skill goes on in a conversation of its own: what follows, up to the call's result, belongs to it.
    Fork {
        /// The turn of the call.
        turn: u32,
        /// The call's id.
        id: String,
        /// The skill.
        skill: String,
    },
    /// The model is asked, with all messages so far.
    Request {
        /// Counts from 1.
        turn: u32,
        /// Messages sent.
        messages: usize,
        /// All other fields of the body but the tools.
        parameters: Map<String, Value>,
        /// SHA-256 of the whole body, in hex: whoever rebuilds the request from this file can check it.
        body_sha256: String,
    },
    /// The server refused the form of the request; it is asked in another one from here on.
    Adapted {
        /// The turn it belongs to.
        turn: u32,
        /// The refusal.
        error: String,
        /// What is done differently.
        change: String,
    },
    /// The next request has one more message at its end, and its answer is a summary that the next
    /// [`Event::Compaction`] holds.
    Summarise {
        /// The turn it belongs to.
        turn: u32,
        /// The message, of role `user`.
        instruction: String,
    },
    /// The conversation was made shorter.
    Compaction {
        /// The turn before whose request.
        turn: u32,
        /// Why.
        reason: String,
        /// Tokens of the context window, as far as it is known by now.
        window: u64,
        /// Tokens of the prompt before, by the server's last count and an estimate of what came after it.
        tokens_before: u64,
        /// The same afterwards.
        tokens_after: u64,
        /// Bytes of the messages afterwards.
        bytes_after: usize,
        /// Results that were shortened, with what they are now.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shortened: Vec<Shortened>,
        /// So many messages after the first became one of the user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<usize>,
        /// Its content: the task and a summary.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        summary: Option<String>,
    },
    /// An attempt failed and is made again.
    Retry {
        /// The turn it belongs to.
        turn: u32,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// Why.
        error: String,
        /// Time until the next one.
        delay_ms: u64,
    },
    /// A message of the conversation. What tools say is in [`Event::ToolResult`].
    Message {
        /// The turn it belongs to; 0 before the first request.
        turn: u32,
        /// `system`, `user` or `assistant`.
        role: String,
        /// Its text.
        content: String,
        /// What the server sent as text, where thoughts or calls were taken out of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        written: Option<String>,
        /// What the model thought aloud, where the server tells.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reasoning: String,
        /// Calls in it, exactly as the model wrote them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
        /// Whether the calls stood in the text.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        calls_from_text: bool,
        /// Why the model stopped, in the server's word.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finish_reason: Option<String>,
        /// From the request to the end of the answer, retries included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        elapsed_ms: Option<u64>,
    },
    /// A tool starts.
    ToolCall {
        /// The turn it belongs to.
        turn: u32,
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// The arguments as they are understood, and sent back in later requests if they are a JSON object.
        arguments: String,
        /// What was mended in name and arguments; the message of this turn has what the model wrote.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        repairs: Vec<String>,
    },
    /// A tool has ended.
    ToolResult {
        /// The turn it belongs to.
        turn: u32,
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// What the model is told, exactly.
        output: String,
        /// Whether the tool failed, or its command did.
        is_error: bool,
        /// Bytes of the result before anything was cut.
        full_bytes: u64,
        /// SHA-256 of it, in hex.
        full_sha256: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// Tokens of one request, by the server's count, or `estimated`.
    Usage {
        /// The turn it belongs to.
        turn: u32,
        /// The tokens.
        #[serde(flatten)]
        usage: Usage,
    },
    /// A prompt of several has been worked on.
    PromptEnd {
        /// Which one, from 1.
        prompt: u32,
        /// Calls of the model that were answered so far.
        turns: u32,
        /// What the model cost so far in USD, where a price is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_usd: Option<f64>,
    },
    /// The last line.
    End {
        /// How it ended.
        outcome: Outcome,
        /// The process's exit code.
        exit_code: u8,
        /// Why there is no answer.
        error: Option<String>,
        /// Calls of the model that were answered.
        turns: u32,
        /// Tokens of the whole run.
        #[serde(flatten)]
        usage: Usage,
        /// What they cost in USD, where a price is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_usd: Option<f64>,
        /// Seconds from start to end.
        elapsed_s: f64,
    },
}

/// A line as it is read back: an event and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// UTC, RFC 3339.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The file that events are written to, if there is one.
#[derive(Debug, Default)]
pub struct Transcript {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    redactor: Redactor,
}

impl Transcript {
    /// A transcript in a new file; see [`Transcript::begin`].
    pub fn create(path: Option<&Path>, redactor: Redactor) -> io::Result<Self> {
        let transcript = Transcript::default();
        transcript.begin(path, redactor)?;
        Ok(transcript)
    }

    /// Starts a new file, and the directories above it. Without `path` nothing is written.
    pub fn begin(&self, path: Option<&Path>, redactor: Redactor) -> io::Result<()> {
        let file = path.map(|path| {
            if let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
                fs::create_dir_all(directory)?;
            }
            create_regular(path)
        });
        *self.lock() = State { file: file.transpose()?, redactor };
        Ok(())
    }

    /// Writes one line. Where that fails (a full disk), nothing more is written, and the error is returned once.
    pub fn write(&self, event: Event) -> io::Result<()> {
        self.lock().write(event)
    }

    /// Writes the last line: whatever comes after it is not written.
    pub fn end(&self, event: Event) -> io::Result<()> {
        let mut state = self.lock();
        let written = state.write(event);
        state.file = None;
        written
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, event: Event) -> io::Result<()> {
        let Some(file) = self.file.as_mut() else { return Ok(()) };
        let line = serde_json::to_string(&Line { time: clock::now(), event })?;
        let before = file.metadata().map(|it| it.len());
        let written = file.write_all(format!("{}\n", self.redactor.clean(&line)).as_bytes());
        if written.is_err() {
            // What was begun of the line goes again: a transcript holds whole lines.
            let _ = before.and_then(|length| file.set_len(length));
            self.file = None;
        }
        written
    }
}

/// Begins a file anew. What is no file is refused: opening a pipe would wait for its other side, before
/// any time-out counts.
fn create_regular(path: &Path) -> io::Result<File> {
    let not_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(not_waiting)
        .open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn lines_are_complete_masked_and_readable_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/transcript.jsonl");
        let redactor = Redactor::new([Secret::new("sk-planted-key")]);
        let transcript = Transcript::create(Some(&path), redactor).unwrap();
        let output = "the key is sk-planted-key\nend".to_owned();
        let event = Event::ToolResult {
            turn: 1,
            id: "c1".into(),
            name: "Bash".into(),
            output,
            is_error: false,
            full_bytes: 29,
            full_sha256: String::new(),
            elapsed_ms: 5,
        };
        transcript.write(event).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with("}\n") && text.lines().count() == 1);
        let line: Line = serde_json::from_str(&text).unwrap();
        let Event::ToolResult { output, .. } = line.event else { panic!("{text}") };
        assert_eq!(output, "the key is [redacted]\nend");
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let create = || Transcript::create(Some(&pipe), Redactor::default());
        assert!(create().is_err(), "a pipe that nobody reads");
        let read = OFlags::NONBLOCK.bits().cast_signed();
        let _reader = OpenOptions::new().read(true).custom_flags(read).open(&pipe).unwrap();
        assert_eq!(create().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn without_a_file_nothing_happens() {
        let transcript = Transcript::create(None, Redactor::default()).unwrap();
        transcript.write(Event::Tools { turn: 1, tools: Vec::new() }).unwrap();
    }
}
