//! A log that is followed: opened behind the last entry that came, until the server says that nothing more can come.

use std::sync::Arc;

use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use modal_proto::client::TaskLogsBatch;
use tonic::Status;

use crate::retry::{self, RetryPolicy};

/// One answer to a question for what comes behind an entry.
pub(crate) type Batches = BoxStream<'static, Result<TaskLogsBatch, Status>>;
/// Asks for what comes behind an entry; empty: from the start.
type Open = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Batches, Status>> + Send + Sync>;

/// A log broke off for good.
#[derive(Debug)]
pub(crate) struct Broken {
    /// What the server said last.
    pub(crate) status: Status,
    /// How often it was asked.
    pub(crate) attempts: u32,
}

struct Following {
    open: Open,
    is_last: fn(&TaskLogsBatch) -> bool,
    policy: RetryPolicy,
    /// The last entry that came.
    last: String,
    breaks: u32,
    batches: Option<Batches>,
}

/// The batches of a log, up to the one that `is_last`, which is left out. A stream that breaks is opened again where it
/// broke, as often as `policy` says without a batch in between.
pub(crate) fn follow(
    open: impl Fn(String) -> BoxFuture<'static, Result<Batches, Status>> + Send + Sync + 'static,
    policy: RetryPolicy,
    is_last: fn(&TaskLogsBatch) -> bool,
) -> BoxStream<'static, Result<TaskLogsBatch, Broken>> {
    let following = Following {
        open: Arc::new(open),
        is_last,
        policy,
        last: String::new(),
        breaks: 0,
        batches: None,
    };
    let batches = stream::try_unfold(following, |mut following| async move {
        let batch = following.next().await?;
        Ok::<_, Broken>(batch.map(|batch| (batch, following)))
    });
    batches.boxed()
}

impl Following {
    async fn next(&mut self) -> Result<Option<TaskLogsBatch>, Broken> {
        loop {
            let batches = match &mut self.batches {
                Some(batches) => batches,
                None => match (self.open)(self.last.clone()).await {
                    Ok(batches) => self.batches.insert(batches),
                    Err(status) => {
                        self.pause(status).await?;
                        continue;
                    }
                },
            };
            match batches.next().await {
                // The server ends each question after a while; the next one goes on behind it.
                None => self.batches = None,
                Some(Ok(batch)) => {
                    self.breaks = 0;
                    if !batch.entry_id.is_empty() {
                        self.last.clone_from(&batch.entry_id);
                    }
                    return Ok(if (self.is_last)(&batch) { None } else { Some(batch) });
                }
                Some(Err(status)) => {
                    self.batches = None;
                    self.pause(status).await?;
                }
            }
        }
    }

    async fn pause(&mut self, status: Status) -> Result<(), Broken> {
        if let Some(wait) = retry::retry_after(&status) {
            tokio::time::sleep(wait).await;
            return Ok(());
        }
        if !retry::is_transient(status.code()) || self.breaks >= self.policy.retries {
            return Err(Broken { status, attempts: self.breaks + 1 });
        }
        tracing::debug!(%status, "a log broke off and is resumed");
        tokio::time::sleep(self.policy.jittered(self.breaks)).await;
        self.breaks += 1;
        Ok(())
    }
}
