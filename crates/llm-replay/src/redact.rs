//! Keeps keys out of recordings.

use serde_json::Value;
use zeroize::Zeroizing;

const MASK: &str = "[redacted]";

/// Cuts known secrets out of texts before anything is written.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<Zeroizing<String>>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

impl Redactor {
    /// Cuts out these values; ones shorter than six bytes are ignored, they would hit ordinary words.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let secrets = secrets.into_iter().filter(|s| s.len() >= 6).map(Zeroizing::new).collect();
        Self { secrets }
    }

    /// `text` with every secret replaced.
    pub fn text(&self, text: &str) -> String {
        let mut result = text.to_owned();
        for secret in &self.secrets {
            result = result.replace(secret.as_str(), MASK);
        }
        result
    }

    /// Every string of a JSON value, keys too, with secrets replaced.
    pub fn json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.json(item)).collect()),
            Value::Object(fields) => Value::Object(
                fields.iter().map(|(key, item)| (self.text(key), self.json(item))).collect(),
            ),
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_cut_out_of_values_and_names() {
        let redactor = Redactor::new(["sk-planted-key".to_owned(), "abc".to_owned()]);
        let seen = redactor.json(&json!({"a": ["x sk-planted-key y"], "sk-planted-key": "abc"}));
        assert_eq!(seen, json!({"a": ["x [redacted] y"], "[redacted]": "abc"}));
        assert_eq!(format!("{redactor:?}"), "Redactor(1 secrets)");
    }
}
