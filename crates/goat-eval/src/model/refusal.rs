//! What a server says when it refuses, taken apart.

use serde_json::Value;

use super::wording::{number_after, number_before};

/// A refusal, as far as anything can be learned from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The HTTP status, or the one told in a stream.
    pub(crate) status: u16,
    /// Everything that was said, in small letters.
    pub(crate) text: String,
    /// The field that the server minds, where it names one.
    pub(crate) parameter: Option<String>,
    /// What the model had written when the server could not read a call in it (Groq).
    pub(crate) failed_generation: Option<String>,
    /// Whether the server could not make a call of what the model wrote.
    pub(crate) is_failed_call: bool,
}

/// A conversation that does not fit, in the server's figures where it gives some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TooLong {
    /// Tokens of the context window.
    pub window: Option<u64>,
    /// Tokens of the prompt that was sent.
    pub prompt: Option<u64>,
}

impl Refusal {
    /// Reads an error's body.
    pub(crate) fn read(status: u16, body: &str) -> Self {
        let value: Value = serde_json::from_str(body).unwrap_or_default();
        let error = &value["error"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let parameter =
            text(&error["param"]).or_else(|| text(&value["param"])).or_else(|| location(&value));
        let failed_generation =
            text(&error["failed_generation"]).filter(|it| !it.trim().is_empty());
        let code = error["code"].as_str().unwrap_or_default();
        Refusal {
            status,
            text: body.to_lowercase(),
            parameter,
            is_failed_call: failed_generation.is_some() || code == "tool_use_failed",
            failed_generation,
        }
    }

    /// Whether the sentence is about a field that should not be there.
    pub(crate) fn minds_a_field(&self) -> bool {
        const WORDS: [&str; 12] = [
            "unsupported",
            "not support",
            "n't support",
            "unrecognized",
            "unknown",
            "unexpected",
            "not permitted",
            "not allowed",
            "deprecated",
            "invalid param",
            "extra fields",
            "cannot both be specified",
        ];
        WORDS.iter().any(|word| self.text.contains(word))
    }

    /// Whether the sentence names a field, as a whole word.
    pub(crate) fn names(&self, field: &str) -> bool {
        let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        self.text.match_indices(field).any(|(at, _)| {
            let before = self.text[..at].chars().next_back();
            let after = self.text[at + field.len()..].chars().next();
            !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
        })
    }

    /// Whether the conversation is too long for the model, in the wordings of OpenAI, Azure, Anthropic, Groq, vLLM,
    /// TGI, llama.cpp, Gemini, and each of them as LiteLLM passes it on.
    pub(crate) fn too_long(&self) -> Option<TooLong> {
        const WORDS: [&str; 21] = [
            "context_length_exceeded",
            "context length exceeded",
            "exceed_context_size",
            "contextwindowexceedederror",
            "maximum context length",
            "maximum model length",
            "maximum context size",
            "maximum sequence length",
            "context window",
            "prompt is too long",
            "prompt too long",
            "exceed context limit",
            "exceeds the available context size",
            "exceeds the maximum number of tokens",
            "input tokens exceed",
            "input is too long",
            "reduce the length of",
            "reduce your message size",
            "request_too_large",
            "request too large",
            "`max_new_tokens` must be",
        ];
        if matches!(self.status, 401 | 403) || self.text.contains("`context_window` for this model")
        {
            return None;
        }
        let found = WORDS.iter().any(|word| self.text.contains(word));
        (found || self.status == 413)
            .then(|| TooLong { window: self.window(), prompt: self.prompt() })
    }

    fn window(&self) -> Option<u64> {
        const BEFORE: [&str; 12] = [
            "maximum context length is",
            "maximum context length of",
            "maximum model length of",
            "maximum sequence length",
            "configured limit of",
            "context window of",
            "context size of",
            "number of tokens allowed (",
            "number of tokens allowed",
            "`max_new_tokens` must be <=",
            "\"n_ctx\":",
            ": limit",
        ];
        let text = &self.text;
        let sum = || number_after(&text[text.find("exceed context limit:")?..], ">");
        BEFORE
            .iter()
            .find_map(|phrase| number_after(text, phrase))
            .or_else(|| number_before(text, " maximum"))
            .or_else(sum)
    }

    fn prompt(&self) -> Option<u64> {
        const BEFORE: [&str; 9] = [
            "resulted in",
            "your request has",
            "prompt is too long:",
            "exceed context limit:",
            "prompt (length",
            "input token count (",
            "input token count of",
            "given:",
            ", requested",
        ];
        let messages = || number_before(&self.text, " in the messages");
        messages().or_else(|| BEFORE.iter().find_map(|phrase| number_after(&self.text, phrase)))
    }
}

/// The field of the first finding of a FastAPI server: `detail[0].loc` is `["body", NAME, …]`.
fn location(value: &Value) -> Option<String> {
    let place = value["detail"][0]["loc"].as_array()?;
    let names: Vec<&str> = place.iter().filter_map(Value::as_str).collect();
    names.get(1).or(names.first()).map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_long(status: u16, body: &str) -> Option<(Option<u64>, Option<u64>)> {
        Refusal::read(status, body).too_long().map(|it| (it.window, it.prompt))
    }

    /// The sentences are those of the providers; see `fixtures/llm/quirks/README.md`.
    #[test]
    fn every_provider_is_understood() {
        let cases = [
            (
                "OpenAI",
                400,
                r#"{"error": {"message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130012 tokens (129000 in the messages, 1012 in the functions). Please reduce the length of the messages or functions.", "code": "context_length_exceeded"}}"#,
                Some((Some(128_000), Some(129_000))),
            ),
            (
                "Azure, gpt-5",
                400,
                r#"{"error": {"message": "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300001 tokens. Please reduce the length of the messages.", "code": "context_length_exceeded"}}"#,
                Some((Some(272_000), Some(300_001))),
            ),
            (
                "OpenAI, no figures",
                400,
                r#"{"error": {"message": "Your input exceeds the context window of this model. Please adjust your input and try again.", "code": "context_length_exceeded"}}"#,
                Some((None, None)),
            ),
            (
                "Anthropic",
                400,
                r#"{"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}}"#,
                Some((Some(200_000), Some(208_310))),
            ),
            (
                "Anthropic, with the answer",
                400,
                r#"{"error": {"message": "input length and `max_tokens` exceed context limit: 190000 + 16384 > 200000, decrease input length or `max_tokens` and try again"}}"#,
                Some((Some(200_000), Some(190_000))),
            ),
            (
                "Groq",
                400,
                r#"{"error": {"message": "Please reduce the length of the messages or completion.", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}"#,
                Some((None, None)),
            ),
            (
                "Groq, rate",
                413,
                r#"{"error": {"message": "Request too large for model `llama-3.3-70b-versatile` in organization `org_x` service tier `on_demand` on tokens per minute (TPM): Limit 12000, Requested 17000, please reduce your message size and try again.", "type": "tokens", "code": "rate_limit_exceeded"}}"#,
                Some((Some(12_000), Some(17_000))),
            ),
            (
                "vLLM 0.8",
                400,
                r#"{"object": "error", "message": "This model's maximum context length is 8192 tokens. However, you requested 16500 tokens (116 in the messages, 16384 in the completion). Please reduce the length of the messages or completion.", "code": 400}"#,
                Some((Some(8_192), Some(116))),
            ),
            (
                "vLLM 0.13",
                400,
                r#"{"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 16384. This model's maximum context length is 8192 tokens and your request has 116 input tokens (16384 > 8192 - 116). None", "type": "BadRequestError", "code": 400}}"#,
                Some((Some(8_192), Some(116))),
            ),
            (
                "vLLM, prompt",
                400,
                r#"{"error": {"message": "The decoder prompt (length 9000) is longer than the maximum model length of 8192. Make sure that `max_model_len` is no smaller than the number of text tokens."}}"#,
                Some((Some(8_192), Some(9_000))),
            ),
            (
                "LiteLLM around OpenAI",
                400,
                r#"{"error": {"message": "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: OpenAIException - This model's maximum context length is 8192 tokens. However, your request has 9001 input tokens. Please reduce the length of the input messages.. Received Model Group=qwen3-4b-local\nAvailable Model Group Fallbacks=None", "type": null, "param": null, "code": "400"}}"#,
                Some((Some(8_192), Some(9_001))),
            ),
            (
                "Gemini",
                400,
                r#"{"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}"#,
                Some((Some(1_048_576), Some(1_200_000))),
            ),
            (
                "TGI",
                422,
                r#"{"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs` tokens and 100 `max_new_tokens`"}"#,
                Some((Some(4_097), Some(5_000))),
            ),
            (
                "llama.cpp",
                400,
                r#"{"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}}"#,
                Some((Some(4_096), None)),
            ),
            (
                "an answer that is too long",
                400,
                r#"{"error": {"message": "`max_tokens` must be less than or equal to `4096`, the maximum value for `max_tokens` is less than the `context_window` for this model"}}"#,
                None,
            ),
            ("something else", 400, r#"{"error": {"message": "tools are not supported"}}"#, None),
            ("a body that is too large", 413, "", Some((None, None))),
        ];
        for (provider, status, body, expected) in cases {
            assert_eq!(too_long(status, body), expected, "{provider}");
        }
    }

    #[test]
    fn fields_are_named_as_whole_words() {
        let refusal = Refusal::read(400, "Unknown argument: stream_options");
        assert!(refusal.minds_a_field() && refusal.names("stream_options"));
        assert!(!refusal.names("stream"));
    }

    #[test]
    fn what_groq_could_not_read_is_kept() {
        let body = r#"{"error": {"message": "Failed to call a function.", "code": "tool_use_failed", "failed_generation": "<function=Bash>{}</function>"}}"#;
        let refusal = Refusal::read(400, body);
        assert!(refusal.is_failed_call);
        assert_eq!(refusal.failed_generation.as_deref(), Some("<function=Bash>{}</function>"));
    }
}
