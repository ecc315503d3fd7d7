//! What the entrypoint prints, as log lines of its app.

mod lines;
mod rate;

use std::sync::Arc;
use std::time::Duration;

use container_runtime::stream::OutputLog;
use modal_proto::client::FileDescriptor;
use tokio::time::Instant;

pub(crate) use self::lines::Lines;
use self::rate::Rate;
use super::live::LiveSandbox;
use crate::clock;
use crate::ctx::Ctx;
use crate::logs::LogLine;

/// A line without its end is shown after this long.
const PATIENCE: Duration = Duration::from_millis(500);

/// Copies one output into the log of the app, until it ends. Of a flood only some gets there: the
/// output itself is read elsewhere.
pub(super) async fn forward(
    ctx: Ctx,
    sandbox: Arc<LiveSandbox>,
    output: OutputLog,
    from: FileDescriptor,
) {
    let mut reader = output.reader(0);
    let mut lines = Lines::default();
    let mut rate = Rate::new(Instant::now());
    let mut at = 0;
    loop {
        let complete = tokio::select! {
            chunk = reader.next() => match chunk {
                Some(chunk) => {
                    rate.lose(chunk.offset - at);
                    at = chunk.end();
                    rate.pass(&chunk.data, Instant::now(), &mut lines);
                    lines.take_complete()
                }
                None => break,
            },
            () = tokio::time::sleep(PATIENCE), if !lines.is_empty() || rate.is_behind() => {
                rate.catch_up(Instant::now(), &mut lines);
                lines.take_rest()
            }
        };
        append(&ctx, &sandbox, from, complete).await;
    }
    rate.finish(&mut lines);
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
