//! File work off the threads that serve calls.

use crate::error::{Error, Result};

/// Runs blocking work on a thread of its own.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    start(work).await
}

/// As [`run`], but begins at once. The work goes on where nobody waits for it any more.
pub(crate) fn start<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let work = tokio::task::spawn_blocking(work);
    async move {
        work.await.unwrap_or_else(|error| {
            Err(Error::File {
                operation: "finish work on",
                path: "the state directory".into(),
                source: std::io::Error::other(error),
            })
        })
    }
}
