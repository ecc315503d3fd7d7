//! What became of the events.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Failures that are kept with their words; beyond, they are only counted.
const KEPT: usize = 1_000;

/// An event that the server did not take, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The event's id, or the span's.
    pub event: String,
    /// The status of the item, or of the whole request; `None` where no answer came.
    pub status: Option<u16>,
    /// Why, in the server's words or ours.
    pub message: String,
}

/// What became of all events that a queue took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were taken.
    pub taken: u64,
    /// Events that the server confirmed.
    pub delivered: u64,
    /// Events that failed for good.
    pub failed: u64,
    /// Events that still wait; after a shutdown: lost.
    pub pending: u64,
    /// The failures since the last report, oldest first.
    pub failures: Vec<Failure>,
    /// Failures that were too many to keep.
    pub failures_left_out: u64,
}

impl Report {
    /// Whether every event was confirmed.
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.pending == 0
    }
}

/// Counts, shared by the handle and the worker.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    taken: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
    failures: Mutex<VecDeque<Failure>>,
}

impl Tally {
    pub(crate) fn took(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    pub(crate) fn delivered(&self, events: usize) {
        self.delivered.fetch_add(events as u64, Relaxed);
    }

    pub(crate) fn failed(&self, failure: Failure) {
        tracing::warn!(
            event = failure.event,
            status = failure.status,
            message = failure.message,
            "Langfuse did not take an event"
        );
        self.failed.fetch_add(1, Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < KEPT {
            failures.push_back(failure);
        } else {
            self.left_out.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn report(&self) -> Report {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let (delivered, failed) = (self.delivered.load(Relaxed), self.failed.load(Relaxed));
        let taken = self.taken.load(Relaxed).max(delivered + failed);
        Report {
            taken,
            delivered,
            failed,
            pending: taken - delivered - failed,
            failures: failures.drain(..).collect(),
            failures_left_out: self.left_out.swap(0, Relaxed),
        }
    }
}
