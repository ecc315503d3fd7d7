//! What a run has used up.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Usage;

/// Counts of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were answered, those for a summary not counted.
    pub turns: u32,
    /// Calls of tools that were started.
    pub tool_calls: u32,
    /// Tokens.
    pub usage: Usage,
}

/// The account of a run. A conversation, those that its skills hold apart, and whoever records the end share it, so
/// that it is right whenever the work is dropped. Clones are the same account.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Tally>>);

impl Ledger {
    /// The counts so far.
    pub fn tally(&self) -> Tally {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered: the number of turns from now on.
    pub(super) fn set_turns(&self, turns: u32) {
        self.change(|tally| tally.turns = turns);
    }

    /// Calls of tools start.
    pub(super) fn add_calls(&self, calls: usize) {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        self.change(|tally| tally.tool_calls = tally.tool_calls.saturating_add(calls));
    }

    /// Tokens were used.
    pub(super) fn add_usage(&self, usage: Usage) {
        self.change(|tally| tally.usage += usage);
    }

    fn change(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
