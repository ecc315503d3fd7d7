//! What outlives the process: records in SQLite, contents by hash, secrets.

mod database;

use sqlx::SqlitePool;

use crate::error::Result;
use crate::state_dir::StateDir;

/// Everything that outlives the process. Clones share it.
#[derive(Clone)]
pub(crate) struct State {
    /// Where files lie.
    pub(crate) dir: StateDir,
    /// Records.
    pub(crate) db: SqlitePool,
}

impl State {
    /// Opens the state directory, making what is missing in it.
    pub(crate) async fn open(dir: StateDir) -> Result<Self> {
        dir.create()?;
        let db = database::open(&dir.database()).await?;
        Ok(Self { dir, db })
    }
}
