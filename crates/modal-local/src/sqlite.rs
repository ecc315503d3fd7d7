//! What both databases share.

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnection, SqlitePoolOptions};

/// A pool that gives away no connection in the middle of a transaction.
///
/// Where the disk is full, SQLite itself rolls back (source: sqlite.org, "Response To Errors Within A
/// Transaction"); the driver's own then fails, and the connection would refuse every transaction from
/// then on.
pub(crate) fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .after_release(|connection, _| Box::pin(is_between_transactions(connection)))
}

async fn is_between_transactions(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // A rollback may wait for its turn; what answers comes after it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}
