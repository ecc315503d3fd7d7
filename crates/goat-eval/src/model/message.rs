//! Messages of a conversation, in the form of the wire.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Message {
    /// Instructions.
    System {
        /// The text.
        content: String,
    },
    /// What the user asks.
    User {
        /// The text.
        content: String,
    },
    /// What the model said.
    Assistant {
        /// The text; null where there are only calls.
        content: Option<String>,
        /// The tools it wants called.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool returned.
    Tool {
        /// The call that this answers.
        tool_call_id: String,
        /// The text.
        content: String,
    },
}

/// A tool call of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What the result refers to.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: CallKind,
    /// What to call.
    pub function: Function,
}

impl ToolCall {
    /// A call of the function `name`.
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: impl Into<String>,
    ) -> Self {
        let function = Function { name: name.into(), arguments: arguments.into() };
        ToolCall { id: id.into(), kind: CallKind::Function, function }
    }
}

/// Kinds of tool calls; the standard knows one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallKind {
    /// A function with JSON arguments.
    Function,
}

/// A function's name and arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// The tool.
    pub name: String,
    /// A JSON object as text, as far as the model managed to write one.
    pub arguments: String,
}

/// Tokens, by the server's count where it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// The part of the prompt's tokens that came from a cache.
    pub cached_tokens: u64,
    /// Whether a server that does not count made an estimate of ours necessary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Usage {
    /// Tokens of prompt and answer.
    pub fn total(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.estimated = self.estimated || other.estimated;
    }
}

/// A whole answer of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// What it thought aloud, where the server tells.
    pub reasoning: String,
    /// The tools it wants called, in order, each with an id of its own.
    pub tool_calls: Vec<ToolCall>,
    /// Whether the calls stood in the text.
    pub calls_from_text: bool,
    /// Why it stopped, in the server's word.
    pub finish_reason: Option<String>,
    /// Tokens, where the server tells.
    pub usage: Option<Usage>,
}
