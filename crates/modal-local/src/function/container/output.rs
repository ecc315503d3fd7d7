//! What a container prints, as log lines of its app.

use std::time::Duration;

use container_runtime::{Output, Process};
use modal_proto::client::FileDescriptor;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::clock;
use crate::ctx::Ctx;
use crate::function::task::Task;
use crate::logs::{LogLine, Source};
use crate::sandbox::Lines;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// A line without its end is shown after this long.
const PATIENCE: Duration = Duration::from_millis(500);

/// Copies both outputs into the log until they end.
pub(super) fn follow(ctx: &Ctx, task: &std::sync::Arc<Task>, process: &mut Process) -> JoinSet<()> {
    let mut logs = JoinSet::new();
    let outputs = [
        (process.take_stdout(), FileDescriptor::Stdout),
        (process.take_stderr(), FileDescriptor::Stderr),
    ];
    for (output, from) in outputs {
        let Some(output) = output else { continue };
        let (ctx, task) = (ctx.clone(), std::sync::Arc::clone(task));
        logs.spawn(async move { copy(&ctx, &task, output, from).await });
    }
    logs
}

/// Adds a line of this server's own.
pub(super) async fn say(ctx: &Ctx, task: &Task, text: &str) {
    append(ctx, task, FileDescriptor::Info, vec![format!("{text}\n")]).await;
}

/// What the log says, and only this server can have it say, when a program waits for a person.
pub(crate) const WAITS_FOR_A_PERSON: &str = "the program waits for a person at its terminal\n";

/// Tells clients that follow the log that the program waits for a person.
pub(crate) async fn announce_terminal(ctx: &Ctx, task: &Task) {
    append(ctx, task, FileDescriptor::Info, vec![WAITS_FOR_A_PERSON.to_owned()]).await;
}

async fn copy(ctx: &Ctx, task: &Task, mut output: Output, from: FileDescriptor) {
    let mut buffer = vec![0; CHUNK];
    let mut lines = Lines::default();
    let is_terminal = task.spec.function.pty_info.as_ref().is_some_and(|info| info.enabled);
    loop {
        let complete = tokio::select! {
            read = output.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    lines.push(&buffer[..length]);
                    // A person at a terminal sees every letter.
                    if is_terminal { lines.take_rest() } else { lines.take_complete() }
                }
            },
            () = tokio::time::sleep(PATIENCE), if !lines.is_empty() => lines.take_rest(),
        };
        append(ctx, task, from, complete).await;
    }
    append(ctx, task, from, lines.take_rest()).await;
}

async fn append(ctx: &Ctx, task: &Task, from: FileDescriptor, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let at = clock::now();
    let lines = lines.into_iter().map(|data| LogLine { data, from, at }).collect();
    let spec = &task.spec;
    // With several inputs at once nobody can say whose line it is.
    let input = task.only_input();
    let source = Source {
        app: spec.app.to_string(),
        task: task.id.to_string(),
        function: spec.base.to_string(),
        variant: if spec.id == spec.base { String::new() } else { spec.id.to_string() },
        call: input.as_ref().map(|input| input.call.to_string()).unwrap_or_default(),
        input: input.map(|input| input.id.to_string()).unwrap_or_default(),
        ..Source::default()
    };
    ctx.logs.append(source, lines).await;
}
