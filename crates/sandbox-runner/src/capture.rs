//! What an agent prints: kept up to a limit, handed on line by line, keys cut out.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};

use crate::{Result, secret::Secret};

/// Bytes of one output that are kept. What follows is counted.
const KEPT: usize = 8 * 1024 * 1024;
/// A line longer than this is handed on in pieces.
const LONGEST_LINE: usize = 16 * 1024;

/// What a program left running may hold its outputs open; they are read for so long after its end.
const DRAIN: Duration = Duration::from_secs(10);

/// Waits for the end of a program and of its outputs, and gives its exit code.
pub(crate) async fn follow(
    exit: impl Future<Output = Result<i32>>,
    outputs: impl Future<Output = Result<()>>,
) -> Result<i32> {
    let (mut exit, mut outputs) = (pin!(exit), pin!(outputs));
    tokio::select! {
        code = &mut exit => {
            let code = code?;
            // Whoever still writes is not the program.
            tokio::time::timeout(DRAIN, outputs).await.unwrap_or(Ok(()))?;
            Ok(code)
        }
        ended = &mut outputs => {
            let code = exit.await;
            ended.and(code)
        }
    }
}

/// One output of one program.
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<Captured>>);

#[derive(Default)]
struct Captured {
    kept: Vec<u8>,
    lost: usize,
}

impl Capture {
    /// Reads an output to its end, giving each line to `on_line`.
    pub(crate) async fn fill(
        &self,
        mut output: BoxStream<'static, Result<Bytes>>,
        secret: Option<&Secret>,
        mut on_line: impl AsyncFnMut(String),
    ) -> Result<()> {
        let mut line = Vec::new();
        while let Some(chunk) = output.next().await {
            let chunk = chunk?;
            self.push(&chunk);
            line.extend_from_slice(&chunk);
            while let Some(end) = line_end(&line) {
                let rest = line.split_off(end);
                on_line(text(&line, secret)).await;
                line = rest;
            }
        }
        if !line.is_empty() {
            on_line(text(&line, secret)).await;
        }
        Ok(())
    }

    /// What was kept, trimmed, without the secret.
    pub(crate) fn text(&self, secret: Option<&Secret>) -> String {
        let captured = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut text = text(&captured.kept, secret);
        if captured.lost > 0 {
            text.push_str(&format!("\n[{} more bytes were not kept]", captured.lost));
        }
        text.trim().to_owned()
    }

    fn push(&self, chunk: &[u8]) {
        let mut captured = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let room = (KEPT - captured.kept.len()).min(chunk.len());
        captured.kept.extend_from_slice(&chunk[..room]);
        captured.lost += chunk.len() - room;
    }
}

/// Where the first line ends, its newline included.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let newline = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n');
    newline.map(|at| at + 1).or((bytes.len() >= LONGEST_LINE).then_some(LONGEST_LINE))
}

fn text(bytes: &[u8], secret: Option<&Secret>) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r']);
    secret.map_or_else(|| text.to_owned(), |secret| secret.redact(text))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn lines(chunks: &'static [&'static str]) -> (Vec<String>, String) {
        let capture = Capture::default();
        let chunks = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())));
        let secret = Secret::new("sk-secret-key");
        let mut lines = Vec::new();
        capture
            .fill(stream::iter(chunks).boxed(), Some(&secret), async |line| lines.push(line))
            .await
            .unwrap();
        (lines, capture.text(Some(&secret)))
    }

    #[tokio::test]
    async fn lines_are_put_together_from_chunks_and_lose_keys() {
        let (lines, text) = lines(&["one\ntw", "o sk-sec", "ret-key\r\n\nend"]).await;
        assert_eq!(lines, ["one", "two ****", "", "end"]);
        assert_eq!(text, "one\ntwo ****\r\n\nend");
    }

    #[tokio::test(start_paused = true)]
    async fn an_output_that_outlives_its_program_is_not_waited_for() {
        let left_open = std::future::pending::<Result<()>>();
        assert_eq!(follow(async { Ok(7) }, left_open).await.unwrap(), 7);
        let closed = follow(async { Ok(0) }, async { Ok(()) }).await;
        assert_eq!(closed.unwrap(), 0);
    }

    #[test]
    fn a_flood_is_kept_up_to_the_limit_and_counted() {
        let capture = Capture::default();
        for _ in 0..9 {
            capture.push(&vec![b'x'; 1024 * 1024]);
        }
        assert!(capture.text(None).ends_with("[1048576 more bytes were not kept]"));
    }
}
