//! The SQLite file of logs.

use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::error::{Error, Result};

/// There is one writer; this is for the moment in which it checkpoints.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// One writer and followers.
const CONNECTIONS: u32 = 8;
/// The write-ahead file is cut back to this many bytes after a checkpoint.
const JOURNAL_BYTES: &str = "8388608";

/// Opens the database and brings its tables up to date.
pub(super) async fn open(path: &Path) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("journal_size_limit", JOURNAL_BYTES)
        .foreign_keys(false)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = crate::sqlite::pool(CONNECTIONS)
        .connect_with(options)
        .await
        .map_err(Error::database("open the logs"))?;
    sqlx::migrate!("./migrations/logs").run(&pool).await.map_err(|source| Error::Database {
        operation: "update the tables of the logs",
        source: source.into(),
    })?;
    Ok(pool)
}
