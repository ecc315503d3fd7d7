//! Ctrl-C and what counts as it.

use std::time::Duration;

use sandbox_runner::{RECORDING, Stop};

use crate::{context::Context, exit::Exit};

/// After a second Ctrl-C, what is known is written in this time.
const HURRY: Duration = Duration::from_secs(1);
/// After the first, beyond the time to record everything.
const SLACK: Duration = Duration::from_secs(2);

/// The first Ctrl-C (or SIGTERM, or a terminal that closes) ends the run in order, the second at once.
/// Whatever hangs, the process ends soon after either.
pub(crate) fn stop_on_signals(context: &Context) -> Stop {
    let stop = Stop::new();
    let (asked, printer) = (stop.clone(), context.printer.clone());
    tokio::spawn(async move {
        let mut signals = Signals::new();
        signals.next().await;
        printer.note("stopping: sandboxes are being ended (again: do not wait)");
        asked.ask();
        tokio::select! {
            () = signals.next() => {
                asked.ask();
                tokio::time::sleep(HURRY).await;
            }
            () = tokio::time::sleep(RECORDING + SLACK) => {}
        }
        printer.warn("not everything could be ended and written: the next command does it");
        std::process::exit(i32::from(Exit::Cancelled.code()));
    });
    stop
}

#[cfg(unix)]
struct Signals([Option<tokio::signal::unix::Signal>; 3]);

#[cfg(unix)]
impl Signals {
    /// Listens from now on. A signal that can't be listened to ends the process as usual.
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = (!ignores_hangup()).then_some(SignalKind::hangup());
        let kinds = [Some(SignalKind::interrupt()), Some(SignalKind::terminate()), hangup];
        Self(kinds.map(|kind| kind.and_then(|kind| signal(kind).ok())))
    }

    async fn next(&mut self) {
        let waiting = self.0.iter_mut().flatten().map(|signal| Box::pin(signal.recv()));
        let waiting: Vec<_> = waiting.collect();
        match waiting.is_empty() {
            true => std::future::pending().await,
            false => drop(futures::future::select_all(waiting).await),
        }
    }
}

/// Whether this was started to outlive its terminal, as by `nohup`.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
