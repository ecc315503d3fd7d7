//! What a command prints: its beginning and end in memory, or all of it in a file.

use std::{
    collections::VecDeque,
    fs::File,
    io::{PipeReader, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::watch};

use crate::tool::{
    Full,
    marked::hex,
    text::{LONGEST_RESULT, cut_middle, fold_repeats, joined, split_chars},
};

/// Bytes kept of each end. Half of what is shown, were every character four bytes long.
const END: usize = LONGEST_RESULT / 2 * 4;

/// Bytes of a background command's output that are kept.
const LONGEST_LOG: u64 = 16 << 20;

/// Collects output while it arrives. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    state: Arc<Mutex<State>>,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    hash: Sha256,
    log: Option<File>,
}

impl Default for Capture {
    fn default() -> Self {
        Capture { state: Arc::default(), ended: watch::Sender::new(false) }
    }
}

impl Capture {
    /// Writes everything to a file instead.
    pub(crate) fn to_file(log: File) -> Self {
        let capture = Capture::default();
        capture.lock().log = Some(log);
        capture
    }

    /// Reads the pipe until nobody can write to it any more, however long that takes.
    pub(crate) fn fill_from(&self, reader: PipeReader) -> std::io::Result<()> {
        let mut reader = pipe::Receiver::from_owned_fd(reader.into())?;
        let capture = self.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                capture.lock().take(&buffer[..count]);
            }
            capture.ended.send_replace(true);
        });
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn total(&self) -> u64 {
        self.lock().total
    }

    /// Size and hash of everything so far.
    pub(crate) fn full(&self) -> Option<Full> {
        let state = self.lock();
        Some(Full { bytes: state.total, sha256: hex(&state.hash.clone().finalize()) })
    }

    /// Waits until nobody can write any more.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as this.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// A last line of ours in the file.
    pub(crate) fn note(&self, line: &str) {
        if let Some(log) = &mut self.lock().log {
            let _ = writeln!(log, "{line}");
        }
    }

    /// What the model is shown.
    pub(crate) fn render(&self) -> String {
        fold_repeats(&self.lock().render())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, bytes: &[u8]) {
        let before = self.total;
        self.total += bytes.len() as u64;
        self.hash.update(bytes);
        if let Some(log) = &mut self.log {
            write_log(log, before, bytes);
            return;
        }
        let room = END.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend(&bytes[room..]);
        let surplus = self.tail.len().saturating_sub(END);
        self.tail.drain(..surplus);
    }

    fn render(&self) -> String {
        let kept: Vec<u8> = self.head.iter().chain(&self.tail).copied().collect();
        if kept.len() as u64 == self.total {
            return cut_middle(&String::from_utf8_lossy(&kept), LONGEST_RESULT);
        }
        let (head, tail) = kept.split_at(self.head.len());
        let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        let half = LONGEST_RESULT / 2;
        let head = split_chars(&head, half).0;
        let tail = split_chars(&tail, tail.chars().count().saturating_sub(half)).1;
        let missing = self.total.saturating_sub((head.len() + tail.len()) as u64);
        joined(head, &format!("{missing} of {} bytes", self.total), tail)
    }
}

fn write_log(log: &mut File, before: u64, bytes: &[u8]) {
    let room = LONGEST_LOG.saturating_sub(before);
    if room == 0 {
        return;
    }
    let fits = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
    let _ = log.write_all(&bytes[..fits]);
    if fits < bytes.len() {
        let _ = writeln!(log, "\n[… what follows was not kept: more than {LONGEST_LOG} bytes …]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_both_ends_and_counts_the_rest() {
        let mut state = State::default();
        state.take(b"first\n");
        for _ in 0..1_000 {
            state.take(&[b'x'; 1_000]);
        }
        state.take(b"\nlast");
        let text = state.render();
        assert!(text.starts_with("first\nxxx") && text.ends_with("xxx\nlast"));
        assert!(
            text.contains("[… 970011 of 1000011 bytes cut from the middle …]"),
            "{}",
            &text[15_000..15_100]
        );
        assert!(text.chars().count() < LONGEST_RESULT + 100);
        assert!(state.head.len() + state.tail.len() <= 2 * END);
    }

    #[test]
    fn what_fits_is_shown_whole() {
        let mut state = State::default();
        state.take("grüße".as_bytes());
        assert_eq!(state.render(), "grüße");
    }

    #[test]
    fn a_log_is_bounded() {
        let mut file = tempfile::tempfile().unwrap();
        write_log(&mut file, LONGEST_LOG - 2, b"abcd");
        write_log(&mut file, LONGEST_LOG + 2, b"more");
        assert!(file.metadata().unwrap().len() < 100);
    }
}
