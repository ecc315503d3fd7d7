//! Ctrl-C and what counts as it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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

/// Ctrl-C (or SIGTERM, or a terminal that closes) for a command that asks first and makes things one after the other.
///
/// While it asks, nothing is made yet: it ends at once, with the terminal as it was. While it makes, it ends after the
/// thing that is being made; a second signal ends it at once.
#[derive(Clone)]
pub(crate) struct Interruption(Arc<Interrupted>);

#[derive(Default)]
struct Interrupted {
    makes: AtomicBool,
    is_asked: AtomicBool,
}

impl Interruption {
    /// Listens from now on.
    pub(crate) fn listen(context: &Context) -> Self {
        let this = Self(Arc::default());
        let (told, printer, terminal) = (this.clone(), context.printer.clone(), Terminal::now());
        tokio::spawn(async move {
            let mut signals = Signals::new();
            signals.next().await;
            told.0.is_asked.store(true, Ordering::SeqCst);
            if told.0.makes.load(Ordering::SeqCst) {
                printer.note("stopping after what is being made (again: at once)");
                signals.next().await;
                printer.warn("what was being made may be there or not: run the command again");
            } else {
                terminal.restore();
                printer.note("\ncancelled: nothing was changed");
            }
            std::process::exit(i32::from(Exit::Cancelled.code()));
        });
        this
    }

    /// From now on things are made; `true` if it is to end before that.
    pub(crate) fn begin(&self) -> bool {
        self.0.makes.store(true, Ordering::SeqCst);
        self.is_asked()
    }

    /// Whether it is to end.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.is_asked.load(Ordering::SeqCst)
    }
}

/// How the terminal is: a question without echo changes it.
#[cfg(target_os = "linux")]
struct Terminal(Option<rustix::termios::Termios>);

#[cfg(target_os = "linux")]
impl Terminal {
    fn now() -> Self {
        Self(rustix::termios::tcgetattr(std::io::stdin()).ok())
    }

    fn restore(&self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        if let Some(now) = &self.0 {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, now);
        }
    }
}

#[cfg(not(target_os = "linux"))]
struct Terminal;

#[cfg(not(target_os = "linux"))]
impl Terminal {
    fn now() -> Self {
        Self
    }

    fn restore(&self) {}
}

/// Ctrl-C, SIGTERM and a terminal that closes, as they come.
#[cfg(unix)]
pub(crate) struct Signals([Option<tokio::signal::unix::Signal>; 3]);

#[cfg(unix)]
impl Signals {
    /// Listens from now on. A signal that can't be listened to ends the process as usual.
    pub(crate) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = (!ignores_hangup()).then_some(SignalKind::hangup());
        let kinds = [Some(SignalKind::interrupt()), Some(SignalKind::terminate()), hangup];
        Self(kinds.map(|kind| kind.and_then(|kind| signal(kind).ok())))
    }

    pub(crate) async fn next(&mut self) {
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
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
