//! What a server has refused, and how it is asked since then.
//!
//! Nothing is asked of a server beforehand: the standard is sent, and a refusal that names what it minds changes the
//! form of that one thing for the rest of the run. Each change happens once, so that a server which minds
//! everything is not asked for ever.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    refusal::Refusal,
    wording::{number_after, number_before},
};

/// Fields without which a request is none.
const NEEDED: [&str; 5] = ["model", "messages", "max_tokens", "max_completion_tokens", "tools"];

/// How this server is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dialect {
    /// `max_completion_tokens` instead of `max_tokens`.
    pub(crate) completion_tokens: bool,
    /// Tokens of an answer at most, as the server said.
    pub(crate) max_output: Option<u64>,
    /// Fields that are left out.
    pub(crate) without: BTreeSet<String>,
    /// The server has no parser for calls: `tool_choice` is none, and calls are read from the text.
    pub(crate) calls_as_text: bool,
    /// The server takes no tools at all: they are described in the system message.
    pub(crate) tools_in_prompt: bool,
    /// The template takes one call a message.
    pub(crate) single_calls: bool,
    /// The template has no system role.
    pub(crate) no_system: bool,
    /// A message without text has an empty one.
    pub(crate) text_always: bool,
}

impl Dialect {
    /// The field that limits an answer.
    pub(crate) fn output_field(&self) -> &'static str {
        if self.completion_tokens { "max_completion_tokens" } else { "max_tokens" }
    }

    /// Takes out of a body what the server minds.
    pub(crate) fn leave_out(&self, body: &mut Map<String, Value>) {
        body.retain(|name, _| !self.without.contains(name));
    }

    /// Learns from a refusal of `body`: what will be done differently, or nothing where that would not help.
    pub(crate) fn learn(&mut self, refusal: &Refusal, body: &Map<String, Value>) -> Option<String> {
        if !matches!(refusal.status, 400 | 404 | 415 | 422 | 500 | 501) {
            return None;
        }
        self.learn_tokens(refusal)
            .or_else(|| self.learn_tools(refusal, body))
            .or_else(|| self.learn_shape(refusal))
            .or_else(|| self.learn_field(refusal, body))
    }

    /// OpenAI: "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'
    /// instead." and "max_tokens is too large: 200000. This model supports at most 16384 completion tokens";
    /// Anthropic: "max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens"; Groq:
    /// "`max_tokens` must be less than or equal to `8192`".
    fn learn_tokens(&mut self, refusal: &Refusal) -> Option<String> {
        let text = refusal.text.as_str();
        if !self.completion_tokens
            && text.contains("max_completion_tokens")
            && ["instead", "unsupported", "not supported", "deprecated"]
                .iter()
                .any(|it| text.contains(it))
        {
            self.completion_tokens = true;
            return Some("sends max_completion_tokens instead of max_tokens".into());
        }
        if !text.contains("max_tokens")
            && !text.contains("max_completion_tokens")
            && !text.contains("maximum tokens")
        {
            return None;
        }
        let most = number_after(text, "supports at most")
            .or_else(|| number_after(text, "less than or equal to"))
            .or_else(|| number_after(text, "exceeds the model limit of"))
            .or_else(|| number_before(text, ", which is the maximum allowed"))?;
        let fewer = self.max_output.is_none_or(|known| most < known);
        (fewer && most > 0).then(|| {
            self.max_output = Some(most);
            format!("asks for at most {most} tokens")
        })
    }

    /// vLLM: "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set"; Ollama:
    /// "… does not support tools".
    fn learn_tools(&mut self, refusal: &Refusal, body: &Map<String, Value>) -> Option<String> {
        let text = refusal.text.as_str();
        if !body.contains_key("tools") {
            return None;
        }
        if !self.calls_as_text
            && (text.contains("enable-auto-tool-choice") || text.contains("tool-call-parser"))
        {
            self.calls_as_text = true;
            return Some("sends tool_choice none and reads calls from the text".into());
        }
        let about_tools = ["tools", "tool use", "tool calling", "function calling", "functions"];
        let none = [
            "not support",
            "unsupported",
            "not available",
            "not enabled",
            "requires --enable",
            "unrecognized",
            "extra inputs",
        ];
        let named = refusal.parameter.as_deref() == Some("tools");
        if !self.tools_in_prompt
            && (named || about_tools.iter().any(|it| text.contains(it)))
            && none.iter().any(|it| text.contains(it))
        {
            self.tools_in_prompt = true;
            return Some(
                "describes the tools in the system message and reads calls from the text".into(),
            );
        }
        None
    }

    /// Sentences of chat templates: Llama 3.1's "This model only supports single tool-calls at once!", Gemma's
    /// "System role not supported"; servers that want `content` to be a string.
    fn learn_shape(&mut self, refusal: &Refusal) -> Option<String> {
        let text = refusal.text.as_str();
        if !self.single_calls && text.contains("single tool-call") {
            self.single_calls = true;
            return Some("gives every call a message of its own".into());
        }
        if !self.no_system && text.contains("system role") && text.contains("not support") {
            self.no_system = true;
            return Some("puts the instructions into the first user message".into());
        }
        let nulls = [
            "null",
            "none is not",
            "nonetype",
            "valid string",
            "must be a string",
            "expected string",
        ];
        if !self.text_always && text.contains("content") && nulls.iter().any(|it| text.contains(it))
        {
            self.text_always = true;
            return Some("sends an empty text where there is none".into());
        }
        None
    }

    /// A field that is not needed and that the server names: in `param`, in `loc`, or in its sentence.
    fn learn_field(&mut self, refusal: &Refusal, body: &Map<String, Value>) -> Option<String> {
        let minded = |name: &&String| {
            !NEEDED.contains(&name.as_str())
                && (refusal.parameter.as_deref() == Some(name.as_str())
                    || (refusal.minds_a_field() && refusal.names(name)))
        };
        // What is only decoration goes first, streaming last.
        let mut names: Vec<&String> = body.keys().collect();
        names.sort_by_key(|name| name.as_str() == "stream");
        let name = names.into_iter().find(minded)?.clone();
        self.without.insert(name.clone()).then(|| format!("leaves out {name}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn learned(dialect: &mut Dialect, status: u16, body: Value) -> Option<String> {
        let sent = json!({"model": "m", "messages": [], "tools": [], "temperature": 0.3, "max_tokens": 5,
            "stream": true, "stream_options": {}, "metadata": {}});
        let refusal = Refusal::read(status, &body.to_string());
        dialect.learn(&refusal, sent.as_object().unwrap())
    }

    fn error(message: &str) -> Value {
        json!({"error": {"message": message}})
    }

    #[test]
    fn each_wording_changes_one_thing_once() {
        let cases = [
            (
                400,
                json!({"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "param": "max_tokens", "code": "unsupported_parameter"}}),
            ),
            (
                400,
                error(
                    "max_tokens is too large: 200000. This model supports at most 16384 completion tokens, whereas you provided 200000.",
                ),
            ),
            (
                400,
                error(
                    "max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku-20241022",
                ),
            ),
            (
                400,
                error(
                    "`max_tokens` must be less than or equal to `4096`, the maximum value for `max_tokens` is less than the `context_window` for this model",
                ),
            ),
            (
                400,
                json!({"error": {"message": "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) value is supported.", "param": "temperature"}}),
            ),
            (
                400,
                error(
                    "litellm.UnsupportedParamsError: gpt-5 models (including gpt-5-codex) don't support temperature=0.3. Only temperature=1 is supported.",
                ),
            ),
            (400, error("Unrecognized request argument supplied: stream_options")),
            (
                422,
                json!({"detail": [{"type": "extra_forbidden", "loc": ["body", "metadata"], "msg": "Extra inputs are not permitted"}]}),
            ),
            (
                400,
                json!({"object": "error", "message": "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set", "code": 400}),
            ),
            (400, error("registry.ollama.ai/library/gemma2:2b does not support tools")),
            (
                400,
                json!({"object": "error", "message": "This model only supports single tool-calls at once!", "code": 400}),
            ),
            (400, error("System role not supported")),
            (
                422,
                json!({"detail": [{"loc": ["body", "messages", 2, "content"], "msg": "none is not an allowed value"}]}),
            ),
        ];
        let mut told = Vec::new();
        for (status, body) in cases {
            let mut dialect = Dialect::default();
            told.push(learned(&mut dialect, status, body.clone()).unwrap_or("nothing".into()));
            assert_eq!(learned(&mut dialect, status, body), None, "{told:?}: learned twice");
        }
        insta::assert_snapshot!(told.join("\n"), @r##"
        sends max_completion_tokens instead of max_tokens
        asks for at most 16384 tokens
        asks for at most 8192 tokens
        asks for at most 4096 tokens
        leaves out temperature
        leaves out temperature
        leaves out stream_options
        leaves out metadata
        sends tool_choice none and reads calls from the text
        describes the tools in the system message and reads calls from the text
        gives every call a message of its own
        puts the instructions into the first user message
        sends an empty text where there is none
        "##);
    }

    #[test]
    fn other_refusals_teach_nothing() {
        for (status, body) in [
            (
                400,
                error(
                    "The response was filtered due to the prompt triggering content management policy",
                ),
            ),
            (401, error("temperature is not supported")),
            (400, error("model: unknown")),
            (400, json!({"error": "messages is not supported"})),
        ] {
            let mut dialect = Dialect::default();
            assert_eq!(learned(&mut dialect, status, body), None);
            assert_eq!(dialect, Dialect::default());
        }
    }
}
