//! What is sent to the model.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Message, dialect::Dialect, profile::Profile, shape};

/// Tokens that one answer may take where the model has as many.
pub const MAX_TOKENS: u64 = 16_384;

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// The name it is called by.
    pub name: String,
    /// What it does and how to use it.
    pub description: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

impl ToolDefinition {
    /// The form of the wire.
    pub fn to_wire(&self) -> Value {
        json!({
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        })
    }
}

/// A request before it is put into a server's dialect.
#[derive(Clone, Debug)]
pub struct ChatRequest<'a> {
    profile: &'a Profile,
    messages: &'a [Message],
    tools: &'a [ToolDefinition],
    max_output: u64,
    forbids_tools: bool,
    metadata: Option<Value>,
}

impl<'a> ChatRequest<'a> {
    /// Asks for the next message of a conversation.
    pub fn new(profile: &'a Profile, messages: &'a [Message], tools: &'a [ToolDefinition]) -> Self {
        let max_output = profile.max_output;
        ChatRequest { profile, messages, tools, max_output, forbids_tools: false, metadata: None }
    }

    /// Allows the answer fewer tokens than the profile does.
    #[must_use]
    pub fn with_max_output(mut self, tokens: u64) -> Self {
        self.max_output = self.max_output.min(tokens).max(1);
        self
    }

    /// Offers the tools, because the conversation holds calls of them, but wants a text.
    #[must_use]
    pub fn without_calls(mut self) -> Self {
        self.forbids_tools = true;
        self
    }

    /// The same with what traces need; see [`crate::trace`].
    pub fn with_metadata(mut self, metadata: Option<Value>) -> Self {
        self.metadata = metadata;
        self
    }

    /// The model that is asked.
    pub fn model(&self) -> &str {
        &self.profile.model
    }

    /// The tools that may be called.
    pub(crate) fn callable(&self) -> Vec<String> {
        let tools = self.tools.iter().filter(|_| !self.forbids_tools);
        tools.map(|tool| tool.name.clone()).collect()
    }

    /// The body, as this server wants it.
    pub(crate) fn body(&self, dialect: &Dialect) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".into(), self.model().into());
        let in_prompt = dialect.tools_in_prompt && !self.tools.is_empty();
        body.insert("messages".into(), shape::messages(self.messages, self.tools, dialect));
        if !self.tools.is_empty() && !in_prompt {
            body.insert("tools".into(), self.tools.iter().map(ToolDefinition::to_wire).collect());
            if let Some(choice) = self.tool_choice(dialect) {
                body.insert("tool_choice".into(), choice.into());
            }
        }
        let sampling = [("temperature", self.profile.temperature), ("top_p", self.profile.top_p)];
        for (name, value) in sampling.into_iter().filter_map(|(name, it)| Some((name, it?))) {
            body.insert(name.into(), value.into());
        }
        let most = dialect.max_output.map_or(self.max_output, |most| most.min(self.max_output));
        body.insert(dialect.output_field().into(), most.into());
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({"include_usage": true}));
        if let Some(metadata) = &self.metadata {
            body.insert("metadata".into(), metadata.clone());
        }
        dialect.leave_out(&mut body);
        body
    }

    fn tool_choice(&self, dialect: &Dialect) -> Option<&'static str> {
        if self.forbids_tools || dialect.calls_as_text {
            Some("none")
        } else {
            self.profile.says_tool_choice.then_some("auto")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ToolCall;

    fn tools() -> [ToolDefinition; 1] {
        [ToolDefinition {
            name: "Read".into(),
            description: "d".into(),
            parameters: json!({"type": "object"}),
        }]
    }

    #[test]
    fn the_body_is_that_of_the_standard() {
        let profile = Profile::of("qwen3-4b-local");
        let messages = [
            Message::System { content: "s".into() },
            Message::User { content: "u".into() },
            Message::Assistant {
                content: None,
                tool_calls: vec![ToolCall::new("c1", "Read", "{}")],
            },
            Message::Tool { tool_call_id: "c1".into(), content: "r".into() },
        ];
        let tools = tools();
        let request = ChatRequest::new(&profile, &messages, &tools);
        insta::assert_json_snapshot!(request.body(&Dialect::default()));
    }

    #[test]
    fn most_models_choose_for_themselves() {
        let profile = Profile::of("gpt-5-nano");
        let body = ChatRequest::new(&profile, &[], &[]).body(&Dialect::default());
        assert_eq!(
            Value::from(body),
            json!({"model": "gpt-5-nano", "messages": [], "max_tokens": 16384, "stream": true,
                   "stream_options": {"include_usage": true}})
        );
    }

    #[test]
    fn a_text_can_be_asked_for() {
        let (profile, tools) = (Profile::of("m"), tools());
        let request = ChatRequest::new(&profile, &[], &tools).without_calls().with_max_output(10);
        let body = request.body(&Dialect::default());
        assert_eq!((&body["tool_choice"], &body["max_tokens"]), (&json!("none"), &json!(10)));
        assert!(request.callable().is_empty());
    }
}
