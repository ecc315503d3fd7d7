//! Reads what a server answers with: a stream of events, or JSON in one piece, whatever it calls itself.

use std::time::{Duration, Instant};

use super::{
    Completion,
    assemble::{AssembleError, Assembler, LARGEST},
    sse::EventReader,
    unpack::Unpacker,
};
use crate::progress::shorten;

/// Time without an event before a stream counts as broken. Proxies keep a connection alive with comments while a
/// model starts; that takes minutes, not this long.
const STALLED: Duration = Duration::from_secs(1_800);

/// Time for what follows an answer: figures and the end mark. Some servers keep the connection open and send neither.
const LINGER: Duration = Duration::from_secs(5);

/// Bytes of an answer that is none which are quoted.
const QUOTED: usize = 200;

/// The mark of the byte order, with which some begin.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// What kind of answer it is, by its first byte.
#[derive(Debug, Default)]
enum Kind {
    #[default]
    Unknown,
    Events(EventReader),
    Json(Vec<u8>),
}

/// An answer that is arriving.
#[derive(Debug)]
pub(crate) struct Receiver {
    unpacker: Unpacker,
    inside: Inside,
    /// When the last event came, or the answer was complete.
    progress: Instant,
}

/// The part that does not care how bytes were packed.
#[derive(Debug, Default)]
struct Inside {
    kind: Kind,
    /// How the body begins.
    start: Vec<u8>,
    assembler: Assembler,
    events: usize,
}

impl Receiver {
    /// For a body with this `Content-Encoding`.
    pub(crate) fn new(encoding: &str, now: Instant) -> Result<Self, AssembleError> {
        let unpacker = Unpacker::of(encoding)?;
        Ok(Receiver { unpacker, inside: Inside::default(), progress: now })
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8], now: Instant) -> Result<(), AssembleError> {
        let (before, was_answered) = (self.inside.events, self.is_answered());
        let inside = &mut self.inside;
        self.unpacker.unpack(bytes, |plain| inside.feed(plain))?;
        // What follows an answer gives no more time.
        if self.inside.events > before && !was_answered {
            self.progress = now;
        }
        Ok(())
    }

    /// Whether nothing more will come, even if the connection stays open.
    pub(crate) fn is_done(&self) -> bool {
        self.inside.assembler.is_done()
    }

    /// Whether the answer is whole; what is missing may be figures.
    pub(crate) fn is_answered(&self) -> bool {
        self.inside.assembler.is_answered()
    }

    /// When the next bytes are too late.
    pub(crate) fn deadline(&self) -> Instant {
        self.progress + if self.is_answered() { LINGER } else { STALLED }
    }

    /// The whole answer, if it has arrived.
    pub(crate) fn finish(mut self) -> Result<Completion, AssembleError> {
        self.inside.end()?;
        self.inside.assembler.finish()
    }
}

impl Inside {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), AssembleError> {
        let room = QUOTED.saturating_sub(self.start.len()).min(bytes.len());
        self.start.extend_from_slice(&bytes[..room]);
        match &mut self.kind {
            Kind::Unknown => {
                let Some(kind) = kind_of(&self.start) else { return Ok(()) };
                self.kind = kind;
                // All that came so far is in `start`, or it would have been known before.
                let so_far = std::mem::take(&mut self.start);
                let rest = &bytes[room..];
                self.feed(so_far.strip_prefix(MARK).unwrap_or(&so_far))?;
                if rest.is_empty() { Ok(()) } else { self.feed(rest) }
            }
            Kind::Json(whole) => {
                whole.extend_from_slice(bytes);
                if whole.len() > LARGEST { Err(AssembleError::TooLarge) } else { Ok(()) }
            }
            Kind::Events(reader) => {
                for data in reader.feed(bytes)? {
                    self.events += 1;
                    self.assembler.push(&data)?;
                }
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Result<(), AssembleError> {
        match &mut self.kind {
            Kind::Json(whole) => self.assembler.push(&String::from_utf8_lossy(whole))?,
            Kind::Events(reader) => {
                if let Some(data) = reader.finish() {
                    self.events += 1;
                    self.assembler.push(&data)?;
                }
                if self.events == 0 {
                    return Err(self.no_answer());
                }
            }
            Kind::Unknown => return Err(self.no_answer()),
        }
        Ok(())
    }

    fn no_answer(&self) -> AssembleError {
        let start = String::from_utf8_lossy(&self.start);
        AssembleError::NoAnswer(match start.trim() {
            "" => "nothing".to_owned(),
            start => format!("`{}`", shorten(start, 100)),
        })
    }
}

/// The kind of a body that begins so; nothing where that is not enough to tell.
fn kind_of(start: &[u8]) -> Option<Kind> {
    if MARK.starts_with(start) {
        return None;
    }
    let start = start.strip_prefix(MARK).unwrap_or(start);
    match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => Some(Kind::Json(Vec::new())),
        Some(_) => Some(Kind::Events(EventReader::default())),
        None if start.len() < QUOTED => None,
        None => Some(Kind::Events(EventReader::default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str =
        r#"{"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}"#;

    fn received(body: &[u8], size: usize) -> Result<String, AssembleError> {
        let mut receiver = Receiver::new("", Instant::now())?;
        for piece in body.chunks(size) {
            receiver.feed(piece, Instant::now())?;
        }
        receiver.finish().map(|it| it.text)
    }

    #[test]
    fn the_first_byte_tells_what_it_is() {
        let event = format!("\u{feff}\r\n: hello\r\ndata: {ANSWER}\r\n\r\n");
        let lines = format!("  {{\"choices\": null}}\n{ANSWER}\nand so on");
        for size in [1, 2, 3, 500] {
            for body in [ANSWER, &event, &lines] {
                assert_eq!(received(body.as_bytes(), size).unwrap(), "hi", "{body} by {size}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_quoted() {
        let said = |body: &str| received(body.as_bytes(), 10).unwrap_err().to_string();
        assert!(said("<html><title>Log in</title>").ends_with("`<html><title>Log in</title>`"));
        assert!(said("").ends_with(": nothing"));
        assert!(said(&" ".repeat(1_000)).ends_with(": nothing"));
        assert_eq!(said(": only\n\n: comments\n\n").matches("`: only …`").count(), 1);
        assert_eq!(said("data: {\"choices\": []}\n\n"), "the stream ended before the answer did");
    }

    #[test]
    fn comments_give_no_time_and_an_answer_little() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut receiver = Receiver::new("", start).unwrap();
        receiver.feed(b": alive\n\n", later(100)).unwrap();
        assert_eq!(receiver.deadline(), start + STALLED);
        let half = br#"data: {"choices": [{"delta": {"content": "x"}}]}"#;
        receiver.feed(half, later(200)).unwrap();
        assert_eq!(receiver.deadline(), start + STALLED);
        receiver.feed(b"\n\n", later(300)).unwrap();
        assert_eq!(receiver.deadline(), later(300) + STALLED);
        receiver.feed(format!("data: {ANSWER}\n\n").as_bytes(), later(400)).unwrap();
        assert_eq!(receiver.deadline(), later(400) + LINGER);
        receiver.feed(b"data: {}\n\n", later(404)).unwrap();
        assert_eq!(receiver.deadline(), later(400) + LINGER);
    }
}
