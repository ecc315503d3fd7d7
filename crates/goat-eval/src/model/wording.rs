//! Numbers in sentences.

/// Characters that may stand between a phrase and its number: quotes, brackets, a few words.
const GAP: usize = 24;

/// The first number that follows soon after `phrase`.
pub(crate) fn number_after(text: &str, phrase: &str) -> Option<u64> {
    let rest = &text[text.find(phrase)? + phrase.len()..];
    let at = rest.char_indices().take(GAP).find(|(_, c)| c.is_ascii_digit())?.0;
    number(rest[at..].chars())
}

/// The number that stands directly before `phrase`.
pub(crate) fn number_before(text: &str, phrase: &str) -> Option<u64> {
    let rest = text[..text.find(phrase)?].trim_end();
    let digits: String =
        rest.chars().rev().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    number(digits.chars().rev())
}

fn number(characters: impl Iterator<Item = char>) -> Option<u64> {
    let digits: String = characters
        .take_while(|c| c.is_ascii_digit() || matches!(c, ',' | '_'))
        .filter(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_next_to_their_words() {
        assert_eq!(number_after("length is 8,192 tokens", "length is"), Some(8_192));
        assert_eq!(number_after("equal to `4096`", "equal to"), Some(4_096));
        assert_eq!(number_after("no number here, or anywhere near it: 12", "no number"), None);
        assert_eq!(number_before("16384 > 8192, which", ", which"), Some(8_192));
        assert_eq!(number_after("99999999999999999999999 x", ""), None);
    }
}
