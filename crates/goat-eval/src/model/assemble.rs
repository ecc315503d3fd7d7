//! Puts the pieces of a streamed answer together.
//!
//! Servers differ in what they leave out and repeat; what can be understood without doubt is understood.

use serde_json::Value;

use super::{Completion, ToolCall, Usage, sse::LineTooLong};

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
    /// Nothing of an answer came; what came instead.
    #[error("the server answered with something else than an answer of a model: {0}")]
    NoAnswer(String),
    /// Packed in a way that was not asked for.
    #[error("the server packs its answer as `{0}`, which was not asked for")]
    Packed(String),
    /// Packed, and broken.
    #[error("the server's answer can't be unpacked")]
    Unpackable(#[source] std::io::Error),
    /// A line without end.
    #[error(transparent)]
    LineTooLong(#[from] LineTooLong),
    /// Not a chunk of an answer.
    #[error("not a chunk of a chat completion")]
    NotAChunk(#[source] serde_json::Error),
    /// Too much.
    #[error("the answer is larger than {LARGEST} bytes")]
    TooLarge,
}

/// An answer that is still arriving.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    completion: Completion,
    /// The server's index of each call in `completion.tool_calls`.
    indices: Vec<Option<u64>>,
    size: usize,
    done: bool,
}

impl Assembler {
    /// Takes the data of one event: a chunk; several, where a server leaves out what ends an event; or the end mark.
    /// What follows an answer and is none of it is let go.
    pub(crate) fn push(&mut self, data: &str) -> Result<(), AssembleError> {
        self.size += data.len();
        if self.size > LARGEST {
            return Err(AssembleError::TooLarge);
        }
        let mut chunks = serde_json::Deserializer::from_str(data).into_iter::<Value>();
        loop {
            let start = chunks.byte_offset();
            match chunks.next() {
                None => return Ok(()),
                Some(Ok(chunk)) => self.take_chunk(&chunk)?,
                Some(Err(_)) if data[start..].trim_start().starts_with("[DONE]") => {
                    self.done = true;
                    return Ok(());
                }
                Some(Err(_)) if self.is_answered() => return Ok(()),
                Some(Err(error)) => return Err(AssembleError::NotAChunk(error)),
            }
        }
    }

    fn take_chunk(&mut self, chunk: &Value) -> Result<(), AssembleError> {
        if let Some(error) = error_in(chunk) {
            return Err(reported(error));
        }
        let choices = chunk["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
        for choice in choices.iter().filter(|it| it["index"].as_u64().unwrap_or(0) == 0) {
            self.take(choice);
        }
        // Groq tells its figures in a field of its own.
        let usage = usage(&chunk["usage"]).or_else(|| usage(&chunk["x_groq"]["usage"]));
        self.completion.usage = usage.or(self.completion.usage);
        Ok(())
    }

    /// Whether the server has said why the model stopped: what may still come are figures.
    pub(crate) fn is_answered(&self) -> bool {
        self.completion.finish_reason.is_some()
    }

    /// Whether `[DONE]` has been seen: nothing more will come, even if the connection stays open.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The whole answer, if it has arrived.
    pub(crate) fn finish(mut self) -> Result<Completion, AssembleError> {
        if !self.done && !self.is_answered() {
            return Err(AssembleError::Incomplete);
        }
        self.completion.tool_calls.retain(|call| !call.function.name.is_empty());
        Ok(self.completion)
    }

    /// Takes a piece; `delta` in a stream, `message` where the server answers in one piece.
    fn take(&mut self, choice: &Value) {
        let delta = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
        let (said, thought) = parts(&delta["content"]);
        self.completion.text.push_str(&said);
        self.completion.reasoning.push_str(&thought);
        // vLLM says `reasoning`, before 0.12 `reasoning_content`, as DeepSeek does; some gateways say both.
        let reasoning = ["reasoning_content", "reasoning"];
        let thought =
            reasoning.iter().map(|name| plain_text(&delta[*name])).find(|it| !it.is_empty());
        self.completion.reasoning.push_str(&thought.unwrap_or_default());
        if self.completion.text.is_empty() && delta["refusal"].is_string() {
            self.completion.text.push_str(&plain_text(&delta["refusal"]));
        }
        match &delta["tool_calls"] {
            Value::Array(calls) => calls.iter().for_each(|call| self.take_call(call)),
            call @ Value::Object(_) => self.take_call(call),
            _ => {}
        }
        // The form before there were several calls.
        if delta["function_call"].is_object() {
            self.take_function(None, None, &delta["function_call"]);
        }
        // Some servers say `""` or `"null"` for as long as there is none.
        let reason = choice["finish_reason"].as_str();
        if let Some(reason) = reason.filter(|it| !matches!(*it, "" | "null")) {
            self.completion.finish_reason = Some(reason.to_owned());
        }
    }

    fn take_call(&mut self, delta: &Value) {
        let index = delta["index"].as_u64().or_else(|| delta["index"].as_str()?.parse().ok());
        let id = match &delta["id"] {
            Value::String(id) if !id.is_empty() => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        };
        // Where `function` is left out, name and arguments lie beside it.
        let function = if delta["function"].is_object() { &delta["function"] } else { delta };
        self.take_function(index, id, function);
    }

    fn take_function(&mut self, index: Option<u64>, id: Option<String>, function: &Value) {
        let name = function["name"].as_str().filter(|name| !name.is_empty());
        let arguments = match &function["arguments"] {
            Value::String(piece) => piece.clone(),
            Value::Null => String::new(),
            object => object.to_string(),
        };
        let position = self.position_of(index, id.as_deref(), name, &arguments);
        let call = &mut self.completion.tool_calls[position];
        if let Some(id) = id {
            call.id = id;
        }
        // Some servers send the name with the first piece, some with every one, some in pieces.
        if let Some(name) = name.filter(|name| *name != call.function.name) {
            call.function.name.push_str(name);
        }
        call.function.arguments.push_str(&arguments);
    }

    /// The call that a piece belongs to: by index, unless its id says that it begins another one, or it has a name
    /// and arguments of its own while the call before is complete.
    fn position_of(
        &mut self,
        index: Option<u64>,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
    ) -> usize {
        let calls = &self.completion.tool_calls;
        let found = match index {
            Some(_) => self.indices.iter().rposition(|known| *known == index),
            None => id
                .and_then(|id| calls.iter().rposition(|call| call.id == id))
                .or(calls.len().checked_sub(1)),
        };
        let fits = |at: &usize| {
            let call = &calls[*at];
            let same_id = id.is_none_or(|id| call.id.is_empty() || call.id == id);
            let starts_anew = name.is_some()
                && (index.is_none() || arguments.trim_start().starts_with('{'))
                && is_object(&call.function.arguments);
            same_id && !starts_anew
        };
        if let Some(at) = found.filter(fits) {
            return at;
        }
        self.completion.tool_calls.push(ToolCall::new("", "", ""));
        self.indices.push(index);
        self.indices.len() - 1
    }
}

fn is_object(text: &str) -> bool {
    text.trim_end().ends_with('}') && serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok()
}

/// What is said and what is thought in a content. Mistral puts thoughts between the parts, as
/// `{"type": "thinking", "thinking": [{"type": "text", …}]}`.
fn parts(content: &Value) -> (String, String) {
    let Value::Array(parts) = content else { return (plain_text(content), String::new()) };
    let is_thought =
        |part: &&Value| matches!(part["type"].as_str(), Some("thinking" | "reasoning"));
    let (thoughts, said): (Vec<&Value>, Vec<&Value>) = parts.iter().partition(is_thought);
    let inside = |part: &Value| match &part["thinking"] {
        Value::Null => plain_text(part),
        thinking => plain_text(thinking),
    };
    (said.into_iter().map(plain_text).collect(), thoughts.into_iter().map(inside).collect())
}

/// Text, whether it comes as a string, as parts, or as one part.
fn plain_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(plain_text).collect(),
        part @ Value::Object(_) => part["text"].as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// The error that an event tells instead of a piece of the answer: `{"error": …}`, vLLM's `{"object": "error", …}`,
/// FastAPI's `{"detail": …}`.
fn error_in(chunk: &Value) -> Option<&Value> {
    let error = &chunk["error"];
    let is_error = !error.is_null() && *error != Value::Bool(false);
    if is_error {
        return Some(error);
    }
    let other =
        chunk["object"] == "error" || (chunk["choices"].is_null() && !chunk["detail"].is_null());
    other.then_some(chunk)
}

/// Tokens, in the words of OpenAI, Anthropic or DeepSeek. Figures that are all zero are none.
fn usage(wire: &Value) -> Option<Usage> {
    let number = |value: &Value| value.as_u64().or_else(|| value.as_f64().map(|it| it as u64));
    let first = |names: &[&str]| names.iter().find_map(|name| number(&wire[*name]));
    let details = ["prompt_tokens_details", "input_tokens_details"];
    let cached = details.iter().find_map(|name| number(&wire[*name]["cached_tokens"]));
    let usage = Usage {
        input_tokens: first(&["prompt_tokens", "input_tokens"]).unwrap_or_default(),
        output_tokens: first(&["completion_tokens", "output_tokens"]).unwrap_or_default(),
        cached_tokens: cached
            .or_else(|| first(&["prompt_cache_hit_tokens", "cache_read_input_tokens"]))
            .unwrap_or_default(),
        estimated: false,
    };
    (usage.total() > 0).then_some(usage)
}

fn reported(error: &Value) -> AssembleError {
    let message = ["message", "detail", "msg"]
        .iter()
        .find_map(|name| error[*name].as_str())
        .or(error.as_str())
        .map_or_else(|| error.to_string(), str::to_owned);
    let codes = [&error["code"], &error["status"], &error["status_code"]];
    let status =
        codes.iter().find_map(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
    let status = status
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (400..600).contains(status));
    AssembleError::Reported { message, status }
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
            Some(Usage { input_tokens: 9, output_tokens: 2, cached_tokens: 4, estimated: false })
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
        assert_eq!(completion.tool_calls, [ToolCall::new("", "Bash", "{}")]);
    }

    #[test]
    fn whole_calls_are_told_apart_whatever_their_index() {
        let call = |index: Value, name: &str, arguments: &str| {
            let mut call = json!({"function": {"name": name, "arguments": arguments}});
            if !index.is_null() {
                call["index"] = index;
            }
            delta(json!({"tool_calls": [call]}))
        };
        for index in [Value::Null, json!(0), json!("0")] {
            let chunks = [
                call(index.clone(), "Read", "{\"x\":1}"),
                call(index.clone(), "Read", "{\"x\":2}"),
                stop("tool_calls"),
            ];
            let calls = assembled(&chunks).unwrap().tool_calls;
            let arguments: Vec<&str> =
                calls.iter().map(|it| it.function.arguments.as_str()).collect();
            assert_eq!(arguments, ["{\"x\":1}", "{\"x\":2}"], "{index}");
        }
        let old = delta(json!({"function_call": {"name": "Bash", "arguments": "{}"}}));
        let calls = assembled(&[old, stop("function_call")]).unwrap().tool_calls;
        assert_eq!(calls, [ToolCall::new("", "Bash", "{}")]);
    }

    #[test]
    fn figures_are_found_under_every_name() {
        let told = |usage: Value| {
            let it = assembled(&[stop("stop"), usage]).unwrap().usage;
            it.map(|it| (it.input_tokens, it.output_tokens, it.cached_tokens))
        };
        let groq = json!({"choices": [], "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}});
        assert_eq!(told(groq), Some((3, 1, 0)));
        let anthropic = json!({"choices": [], "usage": {"input_tokens": 3, "output_tokens": 1, "cache_read_input_tokens": 2}});
        assert_eq!(told(anthropic), Some((3, 1, 2)));
        assert_eq!(told(json!({"usage": {"prompt_tokens": 0, "completion_tokens": 0}})), None);
        assert_eq!(told(json!({"usage": {"prompt_tokens": "many"}})), None);
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
        for error in [
            json!({"object": "error", "message": "no", "code": 400}),
            json!({"detail": "no"}),
            json!({"error": "no"}),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
        ] {
            let Err(AssembleError::Reported { message, .. }) = assembled(&[error]) else {
                panic!()
            };
            assert_eq!(message, "no");
        }
        assert!(matches!(Assembler::default().push("<html>"), Err(AssembleError::NotAChunk(_))));
    }

    #[test]
    fn chunks_need_nothing_between_them_and_what_follows_the_end_is_let_go() {
        let mut assembler = Assembler::default();
        let both = format!("{}\n{}", delta(json!({"content": "a"})), stop("stop"));
        assembler.push(&both).unwrap();
        assert!(assembler.is_answered() && !assembler.is_done());
        assembler.push("<!-- served by a proxy -->").unwrap();
        assembler.push("{} [DONE] {").unwrap();
        assert!(assembler.is_done());
        assert_eq!(assembler.finish().unwrap().text, "a");
    }

    #[test]
    fn a_reason_that_is_none_ends_nothing() {
        for reason in ["", "null"] {
            let half =
                json!({"choices": [{"delta": {"content": "half"}, "finish_reason": reason}]});
            assert!(matches!(assembled(&[half]), Err(AssembleError::Incomplete)));
        }
    }

    #[test]
    fn thoughts_among_the_parts_are_no_text() {
        let content = json!([
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "reasoning", "text": "…"},
            {"type": "text", "text": "hi"},
            null, 5
        ]);
        let completion = assembled(&[delta(json!({"content": content})), stop("stop")]).unwrap();
        assert_eq!((completion.text.as_str(), completion.reasoning.as_str()), ("hi", "hm…"));
    }

    #[test]
    fn an_answer_in_one_piece_is_read_too() {
        let whole = json!({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]});
        assert_eq!(assembled(&[whole]).unwrap().text, "hi");
    }
}
