//! The part of OpenAI's chat completions API that matters here: what a request says, what an answer
//! looks like whole and in chunks. Field names as in OpenAI's API reference, read 2026-11.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    recording::{Answer, ToolCall, Usage},
    template::{self, Captures},
};

/// A chat completion request, as far as it is looked at.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    #[serde(default)]
    pub(crate) stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    /// All other fields.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// One message of a request.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    tool_calls: Option<Vec<WireToolCall>>,
}

#[derive(Debug, Clone, Deserialize)]
struct WireToolCall {
    function: WireFunction,
}

#[derive(Debug, Clone, Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    arguments: String,
}

impl ChatRequest {
    /// The messages that a recording holds: all but the system's.
    pub(crate) fn conversation(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|m| m.role != "system" && m.role != "developer")
    }

    /// Whether the fields have these values; null means absent.
    pub(crate) fn has(&self, fields: &Map<String, Value>) -> bool {
        fields.iter().all(|(name, value)| match name.as_str() {
            "stream_options" => self.stream_options.is_none() == value.is_null(),
            name => self.rest.get(name).unwrap_or(&Value::Null) == value,
        })
    }

    pub(crate) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage)
    }
}

impl Message {
    /// The text, whether the content is a string or a list of parts.
    pub(crate) fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        }
    }

    pub(crate) fn tool_calls(&self) -> Vec<ToolCall> {
        let calls = self.tool_calls.iter().flatten();
        calls.map(|call| tool_call(&call.function.name, &call.function.arguments)).collect()
    }
}

/// A call from its wire form: arguments that are no JSON stay text.
pub(crate) fn tool_call(name: &str, arguments: &str) -> ToolCall {
    let arguments =
        serde_json::from_str(arguments).unwrap_or_else(|_| Value::String(arguments.to_owned()));
    ToolCall { name: name.to_owned(), arguments }
}

/// An answer ready to be sent: values inserted, ids given, tokens counted.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    id: String,
    model: String,
    created: u64,
    text: String,
    tool_calls: Vec<Value>,
    finish_reason: String,
    usage: Usage,
    extra: Map<String, Value>,
}

impl Reply {
    /// `number` makes the ids of this reply differ from those of others.
    pub(crate) fn new(
        answer: &Answer,
        captures: &Captures,
        request: &ChatRequest,
        number: u64,
        created: u64,
    ) -> Self {
        let text = template::insert(&answer.text, captures);
        let tool_calls: Vec<Value> = answer
            .tool_calls
            .iter()
            .enumerate()
            .map(|(index, call)| wire_call(call, captures, number, index))
            .collect();
        let finish_reason = answer.finish_reason.clone().unwrap_or_else(|| {
            if tool_calls.is_empty() { "stop".to_owned() } else { "tool_calls".to_owned() }
        });
        let usage = answer.usage.unwrap_or_else(|| estimate(request, &text, &tool_calls));
        Self {
            id: format!("chatcmpl-replay-{number}"),
            model: request.model.clone(),
            created,
            text,
            tool_calls,
            finish_reason,
            usage,
            extra: answer.extra.clone(),
        }
    }

    /// The answer as one JSON object.
    pub(crate) fn whole(&self) -> Value {
        let mut message = self.extra.clone();
        message.insert("role".to_owned(), json!("assistant"));
        let content = if self.text.is_empty() { Value::Null } else { json!(self.text) };
        message.insert("content".to_owned(), content);
        if !self.tool_calls.is_empty() {
            message.insert("tool_calls".to_owned(), json!(self.tool_calls));
        }
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
            "usage": self.usage_json(),
        })
    }

    /// The answer as the chunks of a stream, in the pieces in which models send them: text by words,
    /// a tool call's name first, its arguments in parts.
    pub(crate) fn chunks(&self, with_usage: bool) -> Vec<Value> {
        let mut deltas = vec![json!({"role": "assistant", "content": ""})];
        for (name, value) in &self.extra {
            deltas.push(json!({ name: value }));
        }
        deltas.extend(pieces(&self.text, ' ').map(|piece| json!({"content": piece})));
        for (index, call) in self.tool_calls.iter().enumerate() {
            let (name, arguments) = (&call["function"]["name"], &call["function"]["arguments"]);
            deltas
                .push(json!({"tool_calls": [{"index": index, "id": call["id"], "type": "function",
                "function": {"name": name, "arguments": ""}}]}));
            let parts = pieces(arguments.as_str().unwrap_or_default(), ',');
            deltas.extend(parts.map(
                |piece| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}),
            ));
        }
        let mut chunks: Vec<Value> =
            deltas.into_iter().map(|delta| self.chunk(delta, Value::Null)).collect();
        chunks.push(self.chunk(json!({}), json!(self.finish_reason)));
        if with_usage {
            let mut last = self.chunk(json!({}), Value::Null);
            last["choices"] = json!([]);
            last["usage"] = self.usage_json();
            chunks.push(last);
        }
        chunks
    }

    fn chunk(&self, delta: Value, finish_reason: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        })
    }

    fn usage_json(&self) -> Value {
        let Usage { prompt_tokens, completion_tokens } = self.usage;
        json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens})
    }
}

/// An error body in OpenAI's shape.
pub(crate) fn error_body(message: &str, kind: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
}

fn wire_call(call: &ToolCall, captures: &Captures, number: u64, index: usize) -> Value {
    let arguments = match template::insert_json(&call.arguments, captures) {
        Value::String(text) => text,
        other => other.to_string(),
    };
    json!({"id": format!("call_replay_{number}_{index}"), "type": "function",
        "function": {"name": call.name, "arguments": arguments}})
}

fn estimate(request: &ChatRequest, text: &str, tool_calls: &[Value]) -> Usage {
    let asked: usize = request
        .messages
        .iter()
        .map(|m| {
            m.text().len()
                + m.tool_calls().iter().map(|c| c.arguments.to_string().len()).sum::<usize>()
        })
        .sum();
    let answered = text.len() + tool_calls.iter().map(|call| call.to_string().len()).sum::<usize>();
    let tokens = |bytes: usize| (bytes / 4).max(1) as u64;
    Usage { prompt_tokens: tokens(asked), completion_tokens: tokens(answered) }
}

fn pieces(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.split_inclusive(separator)
}
