//! File work off the threads that serve calls.

use crate::error::{Error, Result};

/// Runs blocking work on a thread of its own.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::File {
            operation: "finish work on",
            path: "the state directory".into(),
            source: std::io::Error::other(error),
        })
    })
}
