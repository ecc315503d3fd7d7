//! Values that must not be seen, and how they are kept out of what this program writes.

use std::fmt;

use zeroize::Zeroizing;

/// A key. It is shown nowhere: `Debug` prints stars, and its memory is overwritten when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a value that must not be seen.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(Zeroizing::new(value.into()))
    }

    /// The value itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

/// What stands where a secret stood.
const MASK: &str = "[redacted]";

/// Shorter values are words like `none` and `dummy`: to mask them would garble text and protect nothing.
const SHORTEST: usize = 8;

/// Replaces known secrets in text that is about to be written.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    secrets: Vec<Secret>,
}

impl Redactor {
    /// Masks each of `secrets` that is long enough to be one, also in the form it takes inside a JSON string.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut known: Vec<Secret> = Vec::new();
        for secret in secrets.into_iter().filter(|it| it.expose().len() >= SHORTEST) {
            let quoted = serde_json::Value::from(secret.expose()).to_string();
            let escaped = &quoted[1..quoted.len() - 1];
            if escaped != secret.expose() {
                known.push(Secret::new(escaped));
            }
            known.push(secret);
        }
        // A secret that holds another one must go first, or its rest would stay.
        known.sort_by_key(|it| std::cmp::Reverse(it.expose().len()));
        Redactor { secrets: known }
    }

    /// The same with more to mask.
    pub fn with(&self, more: impl IntoIterator<Item = Secret>) -> Self {
        Redactor::new(self.secrets.iter().cloned().chain(more))
    }

    /// `text` without secrets.
    pub fn clean(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for secret in &self.secrets {
            if clean.contains(secret.expose()) {
                clean = clean.replace(secret.expose(), MASK);
            }
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret::new("sk-1234567890")), "Secret(****)");
    }

    #[test]
    fn secrets_are_masked_also_as_json_and_inside_each_other() {
        let redactor = Redactor::new(["12345678", "sk-12345678-x", "quo\"te-me"].map(Secret::new));
        let text = r#"a sk-12345678-x b 12345678 c "quo\"te-me" d"#;
        assert_eq!(redactor.clean(text), r#"a [redacted] b [redacted] c "[redacted]" d"#);
    }

    #[test]
    fn short_words_are_left_alone() {
        assert_eq!(Redactor::new([Secret::new("inspect")]).clean("inspect it"), "inspect it");
    }
}
