//! Bytes on their way to becoming lines.

use crate::logs::MAX_BLOCK;

/// A line that is longer is cut into several.
const MAX_LINE: usize = 16 << 10;

/// Collects bytes and gives them out as text that ends where lines do.
#[derive(Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.pending.extend_from_slice(data);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whole lines, many in one text, and the beginnings of lines that are too long.
    pub(crate) fn take_complete(&mut self) -> Vec<String> {
        let end = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let open = &self.pending[end..];
        let end = if open.len() > MAX_LINE { end + boundary(open, open.len()) } else { end };
        let rest = self.pending.split_off(end);
        texts(&std::mem::replace(&mut self.pending, rest))
    }

    /// Everything, also a line without an end.
    pub(crate) fn take_rest(&mut self) -> Vec<String> {
        texts(&std::mem::take(&mut self.pending))
    }
}

/// Texts of a size that one row of the log holds.
fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let (text, rest) = bytes.split_at(end_of_text(bytes));
        texts.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest;
    }
    texts
}

/// After the last line end that fits, or where a line is too long.
fn end_of_text(bytes: &[u8]) -> usize {
    if bytes.len() <= MAX_BLOCK {
        return bytes.len();
    }
    let last = bytes[..MAX_BLOCK].iter().rposition(|byte| *byte == b'\n');
    last.map_or_else(|| boundary(bytes, MAX_LINE), |at| at + 1)
}

/// `end`, or a little before it if it is inside a character.
fn boundary(bytes: &[u8], end: usize) -> usize {
    let begins = |at: &usize| (bytes[*at] & 0b1100_0000) != 0b1000_0000;
    match (end.saturating_sub(4)..end).rev().find(begins) {
        // A character that begins here has as many bytes as its first says.
        Some(at) if at > 0 && at + (bytes[at].leading_ones().max(1) as usize) > end => at,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_long_ones_are_cut() {
        let mut lines = Lines::default();
        lines.push(b"one\ntwo\nthr");
        assert_eq!(lines.take_complete(), ["one\ntwo\n"]);
        lines.push(b"ee\nfour");
        assert_eq!(lines.take_complete(), ["three\n"]);
        assert_eq!(lines.take_rest(), ["four"]);
        lines.push(&vec![b'x'; MAX_LINE + 1]);
        let lengths: Vec<_> = lines.take_complete().iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE + 1]);
        assert!(lines.is_empty());
    }

    #[test]
    fn a_text_fits_a_row_and_ends_with_a_line() {
        let mut lines = Lines::default();
        lines.push(&b"0123456\n".repeat(MAX_BLOCK / 4));
        let texts = lines.take_complete();
        assert_eq!(texts.len(), 2);
        assert!(texts.iter().all(|text| text.len() <= MAX_BLOCK && text.ends_with('\n')));
    }

    #[test]
    fn no_character_is_torn() {
        let mut lines = Lines::default();
        let text = "ä".repeat(MAX_LINE);
        lines.push(&text.as_bytes()[..MAX_LINE + 1]);
        let cut = lines.take_complete().concat();
        lines.push(&text.as_bytes()[MAX_LINE + 1..]);
        assert_eq!(cut + &lines.take_rest().concat(), text);
    }
}
