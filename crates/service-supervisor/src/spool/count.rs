//! What became of events.

use serde::{Deserialize, Serialize};

/// What can become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// On disk, for now.
    Taken,
    /// Came before, so that it was not taken again.
    Duplicate,
    /// There was no room.
    Dropped,
    /// Langfuse has it.
    Delivered,
    /// Langfuse would not take it, and never will.
    Refused,
}

impl Fate {
    /// The name in the database.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Duplicate => "duplicate",
            Self::Dropped => "dropped",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
        }
    }
}

/// Events since the spool was made, or since its directory on the volume was. `taken` is `delivered`, `refused` and `waiting` together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Put on disk.
    pub(crate) taken: u64,
    /// On disk now.
    pub(crate) waiting: u64,
    /// Taken by Langfuse.
    pub(crate) delivered: u64,
    /// Refused by Langfuse for good.
    pub(crate) refused: u64,
    /// Sent again by the sender.
    pub(crate) duplicate: u64,
    /// Not taken, for want of room: lost unless their sender keeps them.
    pub(crate) dropped: u64,
    /// Bytes on disk now.
    pub(crate) bytes: u64,
}

impl Counts {
    /// With what another container counted, which has ended: what waited there waits here.
    pub(super) fn and(self, other: &Self) -> Self {
        Self {
            taken: self.taken + other.delivered + other.refused,
            delivered: self.delivered + other.delivered,
            refused: self.refused + other.refused,
            duplicate: self.duplicate + other.duplicate,
            dropped: self.dropped + other.dropped,
            ..self
        }
    }
}
