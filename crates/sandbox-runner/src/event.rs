//! Everything a run does, in the order it happened, in one stream.
//!
//! Progress on a terminal, the journal, the results and the tests read the same events.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use eval_types::{Outcome, RunId, Trial, TrialKey};
use serde::Serialize;

use crate::error::BoxError;

/// Which of a program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Descriptor {
    /// Standard output: the answer.
    Stdout,
    /// Standard error: diagnostics.
    Stderr,
}

/// A file that a trial left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialFile {
    /// File name.
    pub name: &'static str,
    /// Its bytes.
    pub contents: Vec<u8>,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The run begins.
    RunStarted {
        /// Which.
        run: RunId,
        /// How many trials.
        trials: usize,
    },
    /// Something that all sandboxes need is being prepared: an image, an upload.
    Preparing {
        /// For people.
        line: String,
        /// Whether it is of interest only to who wants to see everything.
        detail: bool,
    },
    /// Sandboxes can be made.
    Prepared {
        /// The images of a registry that theirs is made of.
        bases: Vec<String>,
    },
    /// A sandbox exists; nothing runs in it yet.
    AttemptStarted {
        /// Which trial.
        trial: TrialKey,
        /// From 1.
        attempt: u32,
        /// The sandbox.
        sandbox: String,
    },
    /// A line of the agent, without its end.
    Output {
        /// Which trial.
        trial: TrialKey,
        /// Which output.
        descriptor: Descriptor,
        /// The line.
        line: String,
    },
    /// An attempt is over and its sandbox is gone.
    AttemptFinished {
        /// Which trial.
        trial: TrialKey,
        /// From 1.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// Why.
        reason: Option<String>,
        /// What it left.
        #[serde(skip)]
        files: Vec<TrialFile>,
    },
    /// The sandbox failed; another attempt follows.
    Retrying {
        /// Which trial.
        trial: TrialKey,
        /// The attempt that follows.
        attempt: u32,
        /// What failed.
        reason: Option<String>,
        /// After how long, in milliseconds.
        after_ms: u128,
    },
    /// A trial is over.
    TrialFinished {
        /// With everything known of it.
        trial: Box<Trial>,
        /// What it left.
        #[serde(skip)]
        files: Vec<TrialFile>,
    },
    /// The run is over.
    RunFinished {
        /// Which.
        run: RunId,
        /// Whether somebody ended it.
        cancelled: bool,
        /// How long it took, in milliseconds.
        elapsed_ms: u128,
    },
}

/// Somebody who wants to know.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// Called for each event, in order for one trial. The trial goes on when this returns, so that
    /// what must be on disk before the next step can be.
    async fn on(&self, event: &Event) -> Result<(), BoxError>;
}

/// Who is told. Errors of subscribers are kept: a result that could not be written is no result.
#[derive(Clone)]
pub struct Events {
    subscribers: Arc<[Arc<dyn Subscriber>]>,
    failures: Arc<std::sync::Mutex<Vec<BoxError>>>,
}

impl Events {
    /// Tells these, in this order.
    pub fn new(subscribers: Vec<Arc<dyn Subscriber>>) -> Self {
        Self { subscribers: subscribers.into(), failures: Arc::default() }
    }

    /// Tells everybody.
    pub async fn send(&self, event: Event) {
        for subscriber in self.subscribers.iter() {
            if let Err(error) = subscriber.on(&event).await {
                // The command that runs this shows it at the end.
                tracing::warn!(%error, "an event could not be handled");
                self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(error);
            }
        }
    }

    /// What subscribers could not do so far.
    pub fn take_failures(&self) -> Vec<BoxError> {
        let mut failures = self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut *failures)
    }
}

/// Milliseconds for events.
pub(crate) fn millis(time: Duration) -> u128 {
    time.as_millis()
}
