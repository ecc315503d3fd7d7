//! What ends a run from outside: signals, and the end of its time.
//!
//! A thread of its own waits for them and tells the run. It also keeps the promise that a run ends within two seconds
//! of a signal: the run's own thread may hang where no event loop can help, in a write to a pipe that nobody reads or
//! in a file system that does not answer. Where it has not begun to record its end after [`PATIENCE`], the thread
//! records it ([`Recorder::force`]) and ends the process; after [`LAST_MOMENT`] it ends the process whatever is open.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use super::record::Recorder;
use crate::{exit_code, mcp::CLOSE, tool::bash::LONGEST_STOP};

/// What a person is promised.
const PROMISE: Duration = Duration::from_secs(2);

/// Time that a run has, from the signal on, to end in good order.
const PATIENCE: Duration = Duration::from_millis(1_400);

/// Time after which the process ends, whatever it hangs in.
const LAST_MOMENT: Duration = Duration::from_millis(1_800);

// To end servers and processes takes so long at most, and the promise leaves something for a busy machine.
const _: () = assert!(CLOSE.as_millis() + LONGEST_STOP.as_millis() < PATIENCE.as_millis());
const _: () = assert!(PATIENCE.as_millis() < LAST_MOMENT.as_millis());
const _: () = assert!(LAST_MOMENT.as_millis() < PROMISE.as_millis());

/// Stack of the thread: it ends processes and writes two small files.
const STACK: usize = 512 << 10;

/// Why a run is to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cause {
    /// A signal.
    Signal {
        /// Its name.
        name: &'static str,
        /// The exit code that tells it.
        code: u8,
    },
    /// The end of the run's time, which was this long.
    TimedOut(Duration),
}

impl Cause {
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Cause::Signal { code, .. } => code,
            Cause::TimedOut(_) => exit_code::TIMED_OUT,
        }
    }
}

/// Hears of the end from outside.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<Option<Cause>>);

impl Stop {
    /// Starts to wait for signals, and for the end of `limit` since `start`.
    pub(super) fn watch(
        limit: Option<Duration>,
        start: Instant,
        recorder: &Arc<Recorder>,
    ) -> io::Result<Self> {
        let (told, hears) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _entered = runtime.enter();
            Signals::new()?
        };
        let recorder = Arc::clone(recorder);
        let watching = move || {
            let cause = runtime.block_on(async {
                tokio::select! {
                    biased;
                    cause = signals.received() => cause,
                    cause = elapsed(limit, start) => cause,
                }
            });
            let since = Instant::now();
            told.send_replace(Some(cause));
            see_it_end(cause, since, &recorder);
        };
        std::thread::Builder::new().name("stop".into()).stack_size(STACK).spawn(watching)?;
        Ok(Stop(hears))
    }

    /// Waits for the end from outside; for ever where none comes.
    pub(super) async fn asked(&mut self) -> Cause {
        match self.0.wait_for(Option::is_some).await {
            Ok(cause) => match *cause {
                Some(cause) => cause,
                None => std::future::pending().await,
            },
            // The thread is gone, which it is only with the process.
            Err(_) => std::future::pending().await,
        }
    }

    /// Does something, unless the end from outside comes first.
    pub(super) async fn unless_asked<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Cause> {
        tokio::select! {
            biased;
            cause = self.asked() => Err(cause),
            result = work => Ok(result),
        }
    }
}

/// Lets the run end by itself, else ends it. The process ends meanwhile wherever all is well.
fn see_it_end(cause: Cause, since: Instant, recorder: &Arc<Recorder>) {
    std::thread::sleep(PATIENCE.saturating_sub(since.elapsed()));
    if let Some(end) = recorder.begin() {
        // On a thread of its own: what the run hangs in may hold this up too.
        let recorder = Arc::clone(recorder);
        let forcing = std::thread::spawn(move || recorder.force(end, cause));
        while !forcing.is_finished() && since.elapsed() < LAST_MOMENT {
            std::thread::sleep(Duration::from_millis(2));
        }
    } else {
        std::thread::sleep(LAST_MOMENT.saturating_sub(since.elapsed()));
    }
    std::process::exit(cause.exit_code().into());
}

/// Ends when so much time has passed since the start; never without a limit.
async fn elapsed(limit: Option<Duration>, start: Instant) -> Cause {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit.saturating_sub(start.elapsed())).await;
            Cause::TimedOut(limit)
        }
        None => std::future::pending().await,
    }
}

/// The signals that end a run in good order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn received(&mut self) -> Cause {
        tokio::select! {
            _ = self.interrupt.recv() => Cause::Signal { name: "SIGINT", code: exit_code::INTERRUPTED },
            _ = self.terminate.recv() => Cause::Signal { name: "SIGTERM", code: exit_code::TERMINATED },
        }
    }
}
