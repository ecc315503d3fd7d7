//! Images that sandboxes leave behind when they end, as far as they are known.

use sqlx::SqlitePool;

use crate::error::{Error, Result};
use crate::ids::{ImageId, SandboxId};

/// What became of the snapshot at the end of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExitSnapshot {
    /// The sandbox still runs, or the snapshot is being taken.
    Pending,
    Taken(String),
    /// There will be none, for this reason.
    Failed(String),
}

/// The table of them. Clones share it.
#[derive(Clone)]
pub(crate) struct ExitSnapshots {
    db: SqlitePool,
}

impl ExitSnapshots {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Records that this sandbox will leave one.
    pub(crate) async fn announce(&self, sandbox: &SandboxId) -> Result<()> {
        sqlx::query("INSERT INTO exit_snapshots (sandbox_id) VALUES (?)")
            .bind(sandbox.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("record an exit snapshot"))
    }

    /// Records what came of it.
    pub(crate) async fn settle(&self, sandbox: &SandboxId, result: &Result<ImageId>) -> Result<()> {
        let image = result.as_ref().ok().map(ImageId::as_str);
        sqlx::query("UPDATE exit_snapshots SET image_id = ?, error = ? WHERE sandbox_id = ?")
            .bind(image)
            .bind(result.as_ref().err().map(ToString::to_string))
            .bind(sandbox.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("record an exit snapshot"))
    }

    /// Those that an earlier server did not take will not come.
    pub(crate) async fn fail_pending(&self, reason: &str) -> Result<()> {
        sqlx::query("UPDATE exit_snapshots SET error = ? WHERE image_id IS NULL AND error IS NULL")
            .bind(reason)
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("record exit snapshots"))
    }

    /// What became of it; `None` for a sandbox that was not to leave one.
    pub(crate) async fn get(&self, sandbox: &SandboxId) -> Result<Option<ExitSnapshot>> {
        let row: Option<(Option<String>, Option<String>)> =
            sqlx::query_as("SELECT image_id, error FROM exit_snapshots WHERE sandbox_id = ?")
                .bind(sandbox.as_str())
                .fetch_optional(&self.db)
                .await
                .map_err(Error::database("look up an exit snapshot"))?;
        Ok(row.map(|row| match row {
            (Some(image), _) => ExitSnapshot::Taken(image),
            (None, Some(error)) => ExitSnapshot::Failed(error),
            (None, None) => ExitSnapshot::Pending,
        }))
    }
}
