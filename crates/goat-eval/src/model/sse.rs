//! Server-sent events: bytes in whatever pieces they arrive, data of whole events out.

/// A line longer than this is no event of a model.
const LONGEST_LINE: usize = 16 << 20;

/// A line without end: the other side does not speak this protocol.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a line of the stream is longer than {LONGEST_LINE} bytes")]
pub(crate) struct LineTooLong;

/// Collects the `data` of events; all other fields do not matter here. Lines end as the standard has it: with CR, LF or
/// both (WHATWG HTML, section 9.2.6).
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    line: Vec<u8>,
    /// Whether the last byte was a CR: an LF after it ends no further line.
    after_cr: bool,
    data: Option<String>,
}

impl EventReader {
    /// Takes the next bytes and returns the data of the events that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, LineTooLong> {
        let mut complete = Vec::new();
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            self.line.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
            if self.line.len() > LONGEST_LINE {
                return Err(LineTooLong);
            }
            let Some(end) = end else { break };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            complete.extend(self.end_line(&line));
        }
        Ok(complete)
    }

    /// The event that the end of the stream completes: some servers leave out the last empty line.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.data.take()
        } else {
            self.end_line(&line).or_else(|| self.data.take())
        }
    }

    fn end_line(&mut self, line: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(line);
        if text.is_empty() {
            return self.data.take();
        }
        if let Some(value) = text.strip_prefix("data:") {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        ": hello\r\ndata: {\"ä\":1}\r\n\r\nevent: x\ndata:two\ndata: lines\n\ndata: [DONE]\n\n";

    #[test]
    fn any_split_gives_the_same_events() {
        for size in 1..STREAM.len() {
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            for piece in STREAM.as_bytes().chunks(size) {
                events.extend(reader.feed(piece).unwrap());
            }
            assert_eq!(events, ["{\"ä\":1}", "two\nlines", "[DONE]"], "pieces of {size}");
        }
    }

    #[test]
    fn lines_may_end_with_cr_alone() {
        let stream = STREAM.replace("\r\n", "\n").replace('\n', "\r");
        for size in 1..stream.len() {
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                events.extend(reader.feed(piece).unwrap());
            }
            assert_eq!(events, ["{\"ä\":1}", "two\nlines", "[DONE]"], "pieces of {size}");
        }
    }

    #[test]
    fn the_last_event_needs_no_empty_line() {
        let mut reader = EventReader::default();
        assert!(reader.feed(b"data: a").unwrap().is_empty());
        assert_eq!(reader.finish().as_deref(), Some("a"));
        assert_eq!(reader.finish(), None);
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let mut reader = EventReader::default();
        assert_eq!(reader.feed(&vec![b'x'; LONGEST_LINE + 1]), Err(LineTooLong));
    }
}
