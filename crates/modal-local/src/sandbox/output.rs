//! What the entrypoint prints, as log lines of its app.

use std::sync::Arc;
use std::time::Duration;

use container_runtime::stream::OutputLog;
use modal_proto::client::FileDescriptor;

use super::live::LiveSandbox;
use crate::clock;
use crate::ctx::Ctx;
use crate::logs::LogLine;

/// A line that is longer is cut into several.
const MAX_LINE: usize = 16 << 10;
/// Bytes of one output that are logged; a program that prints more is read through its output.
const MAX_LOGGED: u64 = 64 << 20;
/// A line without its end is shown after this long.
const PATIENCE: Duration = Duration::from_millis(500);

/// Copies one output into the log of the app, line by line, until it ends.
pub(super) async fn forward(
    ctx: Ctx,
    sandbox: Arc<LiveSandbox>,
    output: OutputLog,
    from: FileDescriptor,
) {
    let mut reader = output.reader(0);
    let mut lines = Lines::default();
    let mut at = 0;
    loop {
        let patience = tokio::time::sleep(PATIENCE);
        let complete = tokio::select! {
            chunk = reader.next() => match chunk {
                Some(chunk) if chunk.end() > MAX_LOGGED => {
                    lines.push(b"\n[more output is not logged]\n");
                    break;
                }
                Some(chunk) => {
                    let lost = chunk.offset - at;
                    at = chunk.end();
                    if lost > 0 {
                        lines.push(format!("\n[{lost} bytes of output dropped]\n").as_bytes());
                    }
                    lines.push(&chunk.data);
                    lines.take_complete()
                }
                None => break,
            },
            () = patience, if !lines.is_empty() => lines.take_rest(),
        };
        append(&ctx, &sandbox, from, complete).await;
    }
    append(&ctx, &sandbox, from, lines.take_rest()).await;
}

async fn append(ctx: &Ctx, sandbox: &LiveSandbox, from: FileDescriptor, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let at = clock::now();
    let line = |data| LogLine { data, from, at };
    let lines: Vec<LogLine> = lines.into_iter().map(line).collect();
    ctx.logs.append_task(&sandbox.app, &sandbox.task, &sandbox.id, lines).await;
}

/// Bytes on their way to becoming lines.
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

    /// Lines with their ends, and the beginnings of lines that are too long.
    pub(crate) fn take_complete(&mut self) -> Vec<String> {
        let end = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = if self.pending.len() - end > MAX_LINE { self.pending.len() } else { end };
        let rest = self.pending.split_off(end);
        split(&std::mem::replace(&mut self.pending, rest))
    }

    pub(crate) fn take_rest(&mut self) -> Vec<String> {
        split(&std::mem::take(&mut self.pending))
    }
}

fn split(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let pieces = lines.flat_map(|line| line.chunks(MAX_LINE));
    pieces.map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_long_ones_are_cut() {
        let mut lines = Lines::default();
        lines.push(b"one\ntw");
        assert_eq!(lines.take_complete(), ["one\n"]);
        lines.push(b"o\nthree");
        assert_eq!(lines.take_complete(), ["two\n"]);
        assert_eq!(lines.take_rest(), ["three"]);
        lines.push(&vec![b'x'; MAX_LINE + 1]);
        assert_eq!(
            lines.take_complete().iter().map(String::len).collect::<Vec<_>>(),
            [MAX_LINE, 1]
        );
        assert!(lines.is_empty());
    }
}
