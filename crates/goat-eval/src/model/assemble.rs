//! Puts the pieces of a streamed answer together.
//!
//! Servers differ in what they leave out and repeat; what can be understood without doubt is understood.

use serde::Deserialize;
use serde_json::Value;

use super::{Completion, ToolCall, Usage};

/// Bytes of one answer at most, frames of its chunks included; a server that sends more is not answering.
pub(crate) const LARGEST: usize = 64 << 20;

/// What makes a stream no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssembleError {
    /// The server reports an error in the middle of the stream.
    #[error("the server reported in the stream: {message}")]
    Reported { message: String, status: Option<u16> },
    /// The stream is over, the answer is not.
    #[error("the stream ended before the answer did")]
    Incomplete,
    /// Not a chunk of an answer.
    #[error("not a chunk of a chat completion")]
    NotAChunk(#[source] serde_json::Error),
    /// Too much.
    #[error("the answer is larger than {LARGEST} bytes")]
    TooLarge,
}

#[derive(Debug, Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    /// `delta` in a stream, `message` where the server answers in one piece.
    #[serde(alias = "message")]
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<Value>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<Value>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Deserialize)]
struct CallDelta {
    index: Option<usize>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Debug, Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

/// An answer that is still arriving.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    completion: Completion,
    /// The server's index of each call in `completion.tool_calls`.
    indices: Vec<Option<usize>>,
    size: usize,
    done: bool,
}

impl Assembler {
    /// Takes the data of one event.
    pub(crate) fn push(&mut self, data: &str) -> Result<(), AssembleError> {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        self.size += data.len();
        if self.size > LARGEST {
            return Err(AssembleError::TooLarge);
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(AssembleError::NotAChunk)?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(reported(&error));
        }
        for choice in
            chunk.choices.unwrap_or_default().into_iter().filter(|choice| choice.index == 0)
        {
            self.take(choice);
        }
        if let Some(usage) = chunk.usage {
            self.completion.usage = Some(usage.into());
        }
        Ok(())
    }

    /// Whether `[DONE]` has been seen: nothing more will come, even if the connection stays open.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The whole answer, if it has arrived.
    pub(crate) fn finish(mut self) -> Result<Completion, AssembleError> {
        if !self.done && self.completion.finish_reason.is_none() {
            return Err(AssembleError::Incomplete);
        }
        self.completion.tool_calls.retain(|call| !call.function.name.is_empty());
        for (position, call) in self.completion.tool_calls.iter_mut().enumerate() {
            if call.id.is_empty() {
                call.id = format!("call_{}", position + 1);
            }
        }
        Ok(self.completion)
    }

    fn take(&mut self, choice: Choice) {
        let delta = choice.delta.unwrap_or_default();
        self.completion.text.push_str(&plain_text(delta.content));
        self.completion.reasoning.push_str(&plain_text(delta.reasoning_content));
        for call in delta.tool_calls.unwrap_or_default() {
            self.take_call(call);
        }
        if choice.finish_reason.is_some() {
            self.completion.finish_reason = choice.finish_reason;
        }
    }

    fn take_call(&mut self, delta: CallDelta) {
        let id = delta.id.filter(|id| !id.is_empty());
        let position = self.position_of(delta.index, id.as_deref());
        let call = &mut self.completion.tool_calls[position];
        if let Some(id) = id {
            call.id = id;
        }
        let Some(function) = delta.function else { return };
        // Some servers send the name with the first piece, some with every one, some in pieces.
        if let Some(name) = function.name.filter(|name| *name != call.function.name) {
            call.function.name.push_str(&name);
        }
        match function.arguments {
            Some(Value::String(piece)) => call.function.arguments.push_str(&piece),
            Some(Value::Null) | None => {}
            Some(object) => call.function.arguments.push_str(&object.to_string()),
        }
    }

    /// The call that a piece belongs to: by index, unless its id says that it begins another one.
    fn position_of(&mut self, index: Option<usize>, id: Option<&str>) -> usize {
        let calls = &self.completion.tool_calls;
        let found = match index {
            Some(_) => self.indices.iter().rposition(|known| *known == index),
            None => calls.len().checked_sub(1),
        };
        let fits = |at: &usize| id.is_none_or(|id| calls[*at].id.is_empty() || calls[*at].id == id);
        if let Some(at) = found.filter(fits) {
            return at;
        }
        self.completion.tool_calls.push(ToolCall::new("", "", ""));
        self.indices.push(index);
        self.indices.len() - 1
    }
}

/// Text, whether it comes as a string or as parts.
fn plain_text(content: Option<Value>) -> String {
    match content {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect()
        }
        _ => String::new(),
    }
}

fn reported(error: &Value) -> AssembleError {
    let message = error["message"]
        .as_str()
        .or(error.as_str())
        .map_or_else(|| error.to_string(), str::to_owned);
    let code = &error["code"];
    let status = code.as_u64().or_else(|| code.as_str()?.parse().ok());
    let status = status
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (400..600).contains(status));
    AssembleError::Reported { message, status }
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        Usage {
            input_tokens: wire.prompt_tokens.unwrap_or_default(),
            output_tokens: wire.completion_tokens.unwrap_or_default(),
            cached_tokens: wire
                .prompt_tokens_details
                .and_then(|it| it.cached_tokens)
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assembled(chunks: &[Value]) -> Result<Completion, AssembleError> {
        let mut assembler = Assembler::default();
        for chunk in chunks {
            assembler.push(&chunk.to_string())?;
        }
        assembler.finish()
    }

    fn delta(delta: Value) -> Value {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
    }

    fn stop(reason: &str) -> Value {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    }

    #[test]
    fn text_and_usage_are_collected() {
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 4}}});
        let parts = delta(json!({"content": [{"type": "text", "text": "lo"}], "reasoning": "hm"}));
        let completion =
            assembled(&[delta(json!({"content": "Hel"})), parts, stop("stop"), usage]).unwrap();
        assert_eq!((completion.text.as_str(), completion.reasoning.as_str()), ("Hello", "hm"));
        assert_eq!(
            completion.usage,
            Some(Usage { input_tokens: 9, output_tokens: 2, cached_tokens: 4 })
        );
    }

    #[test]
    fn parallel_calls_arrive_interleaved() {
        let call = |index: usize, rest: Value| {
            let mut call = json!({"index": index});
            call.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            delta(json!({"tool_calls": [call]}))
        };
        let completion = assembled(&[
            call(0, json!({"id": "a", "function": {"name": "Read", "arguments": ""}})),
            call(1, json!({"id": "b", "function": {"name": "Glob", "arguments": "{\"pat"}})),
            call(0, json!({"function": {"arguments": "{\"file_path\":"}})),
            call(1, json!({"function": {"name": "Glob", "arguments": "tern\":\"*\"}"}})),
            call(0, json!({"function": {"arguments": "\"/x\"}"}})),
            stop("tool_calls"),
        ])
        .unwrap();
        assert_eq!(
            completion.tool_calls,
            [
                ToolCall::new("a", "Read", "{\"file_path\":\"/x\"}"),
                ToolCall::new("b", "Glob", "{\"pattern\":\"*\"}")
            ]
        );
    }

    #[test]
    fn calls_without_index_or_id_are_told_apart() {
        let completion = assembled(&[
            delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "Read", "arguments": "{}"}}]})),
            delta(json!({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "Read", "arguments": {"x": 1}}}]})),
            stop("tool_calls"),
        ])
        .unwrap();
        assert_eq!(completion.tool_calls[1], ToolCall::new("b", "Read", "{\"x\":1}"));
        let nameless =
            delta(json!({"tool_calls": [{"function": {"name": "Bash", "arguments": "{}"}}]}));
        let completion = assembled(&[nameless, stop("stop")]).unwrap();
        assert_eq!(completion.tool_calls, [ToolCall::new("call_1", "Bash", "{}")]);
    }

    #[test]
    fn errors_and_early_ends_are_seen() {
        let error = json!({"error": {"message": "overloaded", "code": "529"}});
        let Err(AssembleError::Reported { message, status }) = assembled(&[error]) else {
            panic!()
        };
        assert_eq!((message.as_str(), status), ("overloaded", Some(529)));
        assert!(matches!(
            assembled(&[delta(json!({"content": "half"}))]),
            Err(AssembleError::Incomplete)
        ));
        assert!(matches!(Assembler::default().push("<html>"), Err(AssembleError::NotAChunk(_))));
    }

    #[test]
    fn an_answer_in_one_piece_is_read_too() {
        let whole = json!({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]});
        assert_eq!(assembled(&[whole]).unwrap().text, "hi");
    }
}
