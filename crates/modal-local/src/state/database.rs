//! The SQLite file of records.

use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::error::{Error, Result};

/// SQLite has one writer at a time; a second waits this long for its turn.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// Readers and one writer beside each other.
const CONNECTIONS: u32 = 8;

/// The write-ahead file is cut back to this many bytes after a checkpoint.
const JOURNAL_BYTES: &str = "8388608";

/// Opens the database and brings its tables up to date.
///
/// Write-ahead logging: what a call has acknowledged survives a kill of the process.
pub(crate) async fn open(path: &Path) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("journal_size_limit", JOURNAL_BYTES)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = crate::sqlite::pool(CONNECTIONS)
        .connect_with(options)
        .await
        .map_err(Error::database("open the records"))?;
    sqlx::migrate!("./migrations").run(&pool).await.map_err(|source| Error::Database {
        operation: "update the tables",
        source: source.into(),
    })?;
    Ok(pool)
}
