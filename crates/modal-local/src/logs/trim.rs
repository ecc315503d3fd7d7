//! What of the logs goes: too old, or too much in all.

use std::time::Duration;

use sqlx::SqlitePool;

use crate::clock;
use crate::error::{Error, Result};

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Retention {
    /// Older lines go.
    pub(crate) age: Duration,
    /// Bytes of all logs; the oldest go first.
    pub(crate) bytes: i64,
}

impl Retention {
    /// What a server keeps by itself.
    pub(crate) const USUAL: Self = Self { age: Duration::from_secs(35 * 86_400), bytes: 1 << 30 };
    /// What is kept where somebody asks for room.
    pub(crate) const SMALL: Self = Self { age: Duration::from_secs(86_400), bytes: 256 << 20 };
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trimmed {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

/// Removes what is not kept and gives the room back to the disk. Only the writer may call it.
pub(super) async fn trim(db: &SqlitePool, keep: Retention) -> Result<Trimmed> {
    let failed = || Error::database("trim the logs");
    let oldest = clock::now() - keep.age.as_secs_f64();
    let mut transaction = db.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
    // Up to which block the newer ones take all the room there is.
    let full: Option<i64> = sqlx::query_scalar(
        "SELECT max(last_entry) FROM (
             SELECT last_entry, sum(bytes) OVER (ORDER BY last_entry DESC) AS newer FROM blocks
         ) WHERE newer > ?",
    )
    .bind(keep.bytes)
    .fetch_one(&mut *transaction)
    .await
    .map_err(failed())?;
    let mut trimmed = Trimmed::default();
    // The newest block stays: entries are numbered on from it.
    let gone: Vec<(i64, i64)> = sqlx::query_as(
        "DELETE FROM blocks
         WHERE (at < ?1 OR last_entry <= ?2) AND last_entry < (SELECT max(last_entry) FROM blocks)
         RETURNING lines, bytes",
    )
    .bind(oldest)
    .bind(full.unwrap_or(0))
    .fetch_all(&mut *transaction)
    .await
    .map_err(failed())?;
    for (lines, bytes) in gone {
        trimmed.lines += lines.unsigned_abs();
        trimmed.bytes += bytes.unsigned_abs();
    }
    for query in [
        "DELETE FROM sources WHERE NOT EXISTS
             (SELECT 1 FROM blocks WHERE blocks.source_id = sources.source_id)",
        "UPDATE owners SET bytes = coalesce(
             (SELECT sum(bytes) FROM blocks WHERE blocks.owner_id = owners.owner_id), 0)",
    ] {
        sqlx::query(query).execute(&mut *transaction).await.map_err(failed())?;
    }
    sqlx::query("DELETE FROM owners WHERE bytes = 0 AND finished_at < ?")
        .bind(oldest)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
    transaction.commit().await.map_err(failed())?;
    for query in ["PRAGMA incremental_vacuum", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        sqlx::query(query).fetch_all(db).await.map_err(failed())?;
    }
    Ok(trimmed)
}
