//! Counts tokens where a caller did not: by OpenAI's encodings, as version 2 does for models that name one.
//!
//! Version 2 counts Claude's with a tokenizer that is not public as a library; those stay uncounted here.

use serde::Deserialize;
use serde_json::Value;
use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

/// How a model counts: `tokenizer_id` and `tokenizer_config` of its row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tokenizer {
    model: String,
    /// Tokens around a message and a name; only chat models have them.
    chat: Option<(usize, usize)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    tokenizer_model: String,
    #[serde(default)]
    tokens_per_message: Option<usize>,
    #[serde(default)]
    tokens_per_name: Option<usize>,
}

/// Keys of a message that count.
const COUNTED: [&str; 7] =
    ["content", "role", "name", "tool_calls", "function_call", "toolCalls", "functionCall"];

/// Every answer of a chat begins with three.
const PRIMING: usize = 3;

impl Tokenizer {
    /// Reads a model's columns; `None` where it is not OpenAI's or its configuration is none.
    pub(crate) fn of(id: Option<&str>, configuration: Option<Value>) -> Option<Self> {
        if id != Some("openai") {
            return None;
        }
        let configuration: Configuration = serde_json::from_value(configuration?).ok()?;
        let chat = configuration.tokens_per_message.zip(configuration.tokens_per_name);
        Some(Self { model: configuration.tokenizer_model, chat })
    }

    /// Tokens of an input or output; `None` where there is nothing to count.
    pub(crate) fn count(&self, text: &str) -> Option<i64> {
        let value: Value = serde_json::from_str(text).ok()?;
        let count = match &value {
            Value::Null => return None,
            Value::Array(items) if items.is_empty() => return None,
            Value::String(text) => self.tokens(text),
            Value::Array(messages) if messages.iter().all(is_message) => match self.chat {
                Some(chat) => self.messages(messages, chat),
                None => self.tokens(&value.to_string()),
            },
            other => self.tokens(&other.to_string()),
        };
        i64::try_from(count).ok()
    }

    fn messages(&self, messages: &[Value], (per_message, per_name): (usize, usize)) -> usize {
        let of_message = |message: &Value| {
            let fields = message.as_object().into_iter().flatten();
            let counted = fields.filter(|(key, _)| COUNTED.contains(&key.as_str()));
            let of_field = |(key, value): (&String, &Value)| {
                let name = if key == "name" { per_name } else { 0 };
                name + value.as_str().map_or(0, |text| self.tokens(text))
            };
            per_message + counted.map(of_field).sum::<usize>()
        };
        messages.iter().map(of_message).sum::<usize>() + PRIMING
    }

    fn tokens(&self, text: &str) -> usize {
        let encoding: &CoreBPE = match self.model.starts_with("gpt-4o") {
            true => o200k_base_singleton(),
            false => cl100k_base_singleton(),
        };
        encoding.encode_ordinary(text).len()
    }
}

fn is_message(value: &Value) -> bool {
    let text = |key: &str| value.get(key).is_some_and(Value::is_string);
    text("role") && text("content") && value.get("name").is_none_or(Value::is_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokenizer(model: &str) -> Tokenizer {
        let configuration =
            json!({ "tokenizerModel": model, "tokensPerMessage": 3, "tokensPerName": 1 });
        Tokenizer::of(Some("openai"), Some(configuration)).unwrap()
    }

    #[test]
    fn texts_and_messages_count_as_openai_says() {
        let gpt_4o = tokenizer("gpt-4o");
        assert_eq!(gpt_4o.count(r#""in""#), Some(1));
        assert_eq!(gpt_4o.count(r#""out""#), Some(1));
        // Three around it, one for `user`, one for `hi`, three for the answer's beginning.
        assert_eq!(gpt_4o.count(r#"[{"role":"user","content":"hi"}]"#), Some(8));
        assert_eq!(tokenizer("gpt-4").count(r#""tiktoken is great!""#), Some(6));
        assert_eq!(gpt_4o.count("null"), None);
        assert_eq!(gpt_4o.count("[]"), None);
    }

    #[test]
    fn a_tokenizer_that_is_not_openais_counts_nothing() {
        assert_eq!(Tokenizer::of(Some("claude"), None), None);
        assert_eq!(Tokenizer::of(None, Some(json!({}))), None);
    }
}
