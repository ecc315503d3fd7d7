//! Images: recipes, builds and their layers.

use crate::error::Result;
use crate::state::State;

/// The images that this server knows.
pub(crate) struct Images;

impl Images {
    pub(crate) async fn open(_state: &State) -> Result<Self> {
        Ok(Self)
    }
}
