//! The output of sandboxes of version 1, which the control plane has: a log that is resumed by its entries.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use modal_proto::client as api;
use tonic::Status;

use super::{
    Router,
    output::{Chunk, Chunks, Descriptor},
};
use crate::{
    retry::{self, RetryPolicy},
    rpc::methods,
};

/// How long the server holds one question for more, in seconds.
const POLL: f32 = 55.0;

struct Log {
    router: Router,
    descriptor: Descriptor,
    last: String,
    breaks: u32,
    open: Option<stream::BoxStream<'static, Result<api::TaskLogsBatch, Status>>>,
}

/// The output from its start. It resumes by itself; an error is the last item and no break to resume after.
pub(super) fn chunks(router: Router, descriptor: Descriptor) -> Chunks {
    let log = Log { router, descriptor, last: String::new(), breaks: 0, open: None };
    let batches = stream::try_unfold(log, |mut log| async move {
        let batch = log.next().await?;
        Ok::<_, Status>(batch.map(|batch| (batch, log)))
    });
    let chunk = |batch: api::TaskLogsBatch| {
        let text: String = batch.items.into_iter().map(|item| item.data).collect();
        Chunk { data: text.into(), offset: None }
    };
    batches.map_ok(chunk).boxed()
}

impl Log {
    async fn next(&mut self) -> Result<Option<api::TaskLogsBatch>, Status> {
        loop {
            let batches = match &mut self.open {
                Some(batches) => batches,
                None => {
                    match connect(self.router.clone(), self.descriptor, self.last.clone()).await {
                        Ok(batches) => self.open.insert(batches),
                        Err(status) => {
                            self.pause(status).await?;
                            continue;
                        }
                    }
                }
            };
            match batches.next().await {
                None => self.open = None,
                Some(Ok(batch)) => {
                    self.breaks = 0;
                    if !batch.entry_id.is_empty() {
                        self.last.clone_from(&batch.entry_id);
                    }
                    if batch.eof {
                        return Ok(None);
                    }
                    return Ok(Some(batch));
                }
                Some(Err(status)) => {
                    self.open = None;
                    self.pause(status).await?;
                }
            }
        }
    }

    async fn pause(&mut self, status: Status) -> Result<(), Status> {
        if let Some(wait) = retry::retry_after(&status) {
            tokio::time::sleep(wait).await;
            return Ok(());
        }
        if self.breaks >= RetryPolicy::ROUTER.retries || !retry::is_transient(status.code()) {
            // Whoever reads must not begin again: it would see everything twice.
            return Err(Status::aborted(status.message()));
        }
        tokio::time::sleep(RetryPolicy::ROUTER.jittered(self.breaks)).await;
        self.breaks += 1;
        Ok(())
    }
}

async fn connect(
    router: Router,
    descriptor: Descriptor,
    last_entry_id: String,
) -> Result<stream::BoxStream<'static, Result<api::TaskLogsBatch, Status>>, Status> {
    let file_descriptor = match descriptor {
        Descriptor::Stdout => api::FileDescriptor::Stdout,
        Descriptor::Stderr => api::FileDescriptor::Stderr,
    };
    let query = api::SandboxGetLogsRequest {
        sandbox_id: router.sandbox().to_string(),
        file_descriptor: file_descriptor.into(),
        timeout: POLL,
        last_entry_id,
    };
    let client = router.client();
    let metadata = client.metadata();
    let opened = client.shared.wire.stream(&methods::SANDBOX_GET_LOGS, query, metadata, None);
    Ok(opened.await?.boxed())
}
