//! What is sent to the model.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Message, profile::Profile};

/// Tokens that one answer may take.
pub const MAX_TOKENS: u32 = 16_384;

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

/// The body of a request.
#[derive(Clone, Debug, Serialize)]
pub struct ChatRequest<'a> {
    model: &'a str,
    messages: &'a [Message],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    max_tokens: u32,
    stream: bool,
    stream_options: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
}

impl<'a> ChatRequest<'a> {
    /// Asks for the next message of a conversation.
    pub fn new(profile: &'a Profile, messages: &'a [Message], tools: &[ToolDefinition]) -> Self {
        let tool_choice = (profile.says_tool_choice && !tools.is_empty()).then_some("auto");
        ChatRequest {
            model: &profile.model,
            messages,
            tools: tools.iter().map(definition).collect(),
            tool_choice,
            temperature: profile.temperature,
            max_tokens: MAX_TOKENS,
            stream: true,
            stream_options: json!({"include_usage": true}),
            metadata: None,
        }
    }

    /// The same with what traces need; see [`crate::trace`].
    pub fn with_metadata(mut self, metadata: Option<Value>) -> Self {
        self.metadata = metadata;
        self
    }

    /// The model that is asked.
    pub fn model(&self) -> &str {
        self.model
    }
}

fn definition(tool: &ToolDefinition) -> Value {
    json!({
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ToolCall;

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
        let tools = [ToolDefinition {
            name: "Read".into(),
            description: "d".into(),
            parameters: json!({"type": "object"}),
        }];
        insta::assert_json_snapshot!(ChatRequest::new(&profile, &messages, &tools));
    }

    #[test]
    fn most_models_choose_for_themselves() {
        let profile = Profile::of("gpt-5-nano");
        let body = serde_json::to_value(ChatRequest::new(&profile, &[], &[])).unwrap();
        assert_eq!(
            body,
            json!({"model": "gpt-5-nano", "messages": [], "max_tokens": 16384, "stream": true,
                   "stream_options": {"include_usage": true}})
        );
    }
}
