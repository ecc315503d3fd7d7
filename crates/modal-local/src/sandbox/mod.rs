//! Live sandboxes.

use crate::error::Result;
use crate::state::State;

/// The sandboxes that run on this server.
pub(crate) struct Sandboxes;

impl Sandboxes {
    pub(crate) async fn open(_state: &State) -> Result<Self> {
        Ok(Self)
    }

    /// How many run now: the server does not end itself while there is one.
    pub(crate) fn running(&self) -> usize {
        0
    }

    /// Ends all of them; part of stopping the server.
    pub(crate) async fn shutdown(&self) {}
}
