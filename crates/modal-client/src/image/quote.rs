//! Quoting for a POSIX shell, in the exact form of Python's `shlex`, since layers are cached by their text.

/// One word, quoted where it must be.
pub(super) fn quote(word: &str) -> String {
    if word.is_empty() {
        return "''".to_owned();
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\"'\"'"))
}

/// Words, quoted and joined with spaces.
pub(super) fn join<'a>(words: impl IntoIterator<Item = &'a String>) -> String {
    words.into_iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_python_does() {
        let cases = [
            ("", "''"),
            ("requests==2.32.3", "requests==2.32.3"),
            ("huggingface_hub[hf_transfer]", "'huggingface_hub[hf_transfer]'"),
            ("a \"b\" $c", "'a \"b\" $c'"),
            ("it's", "'it'\"'\"'s'"),
            ("ü", "'ü'"),
        ];
        for (word, quoted) in cases {
            assert_eq!(quote(word), quoted);
        }
    }
}
