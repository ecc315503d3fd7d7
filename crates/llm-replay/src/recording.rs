//! The file format: one conversation a file, in the order in which it was held.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The format that this version reads and writes.
pub(crate) const FORMAT: &str = "llm-replay/1";

/// One conversation with a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// Always `llm-replay/1`.
    pub format: String,
    /// Who gave the answers.
    pub origin: Origin,
    /// The model that this recording answers for; any model where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The messages, system prompt left out, starting with the user's.
    pub conversation: Vec<Entry>,
}

/// Where a recording's answers come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// A model's answers or a person's.
    pub kind: OriginKind,
    /// Anything a reviewer should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The host that answered, for a recorded conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// Whether a model was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginKind {
    /// Recorded from an upstream.
    Recorded,
    /// Written by hand; no model was asked.
    Scripted,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// What the user said; `{{name}}` stands for any text and remembers it.
    User(String),
    /// What the model answered.
    Assistant(Answer),
    /// What a tool answered to the call before.
    Tool(ToolResult),
    /// The upstream failed instead of answering.
    Failure(Failure),
}

/// A model's answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The text; `{{name}}` inserts a remembered value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Tools to call, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// As the API gives it; absent: `tool_calls` where tools are called, else `stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Tokens; absent: estimated from the length of the texts (four bytes a token).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The events of the stream exactly as they are sent (a string is no JSON), for answers where it matters how they
    /// come. Text and calls say then what a client should make of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<Value>,
    /// Further fields of the message, such as `reasoning_content`, as the upstream sent them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments; a string holds text that is not JSON, sent as it is.
    pub arguments: Value,
}

/// A tool's answer, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolResult {
    /// A regular expression that the result must match; its named groups are remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// What the tool answered while recording, for a reader; not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
}

/// An answer that is an HTTP error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The HTTP status.
    pub status: u16,
    /// Seconds for `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The error's message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The error's whole body, for wordings that matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Events of a stream that breaks off after them, exactly as they are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<Value>,
    /// How often it fails before the conversation goes on.
    #[serde(default = "once")]
    pub times: u32,
    /// It fails as long as these fields of the request have other values; null means absent. `times` does not count
    /// then.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub unless: Map<String, Value>,
}

fn once() -> u32 {
    1
}

/// Tokens of one exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Tokens of the request.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

impl Recording {
    /// An empty recording with this origin.
    pub fn new(origin: Origin) -> Self {
        Self { format: FORMAT.to_owned(), origin, model: None, conversation: Vec::new() }
    }

    /// Reads and checks one file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let recording: Self = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Malformed { path: path.to_owned(), source })?;
        match recording.problem() {
            Some(reason) => Err(Error::Unusable { path: path.to_owned(), reason }),
            None => Ok(recording),
        }
    }

    /// The file's text: indented, one trailing newline.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a recording holds only strings, numbers and JSON values");
        text.push('\n');
        text
    }

    fn problem(&self) -> Option<String> {
        if self.format != FORMAT {
            return Some(format!("format `{}`, this version reads `{FORMAT}`", self.format));
        }
        if !matches!(self.conversation.first(), Some(Entry::User(_))) {
            return Some("the conversation does not start with a user message".to_owned());
        }
        for (index, entry) in self.conversation.iter().enumerate() {
            let problem = match entry {
                Entry::Tool(ToolResult { matches: Some(pattern), .. }) => {
                    regex::Regex::new(pattern).err().map(|error| error.to_string())
                }
                _ => None,
            };
            if let Some(problem) = problem {
                return Some(format!("message {index}: {problem}"));
            }
        }
        None
    }
}
