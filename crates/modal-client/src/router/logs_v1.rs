//! The output of sandboxes of version 1, which the control plane has: a log that is resumed by its entries.

use futures::{
    future::BoxFuture,
    stream::{StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;
use tonic::Status;

use super::{
    Router,
    output::{Chunk, Chunks, Descriptor},
};
use crate::{
    follow::{self, Batches},
    retry::RetryPolicy,
    rpc::methods,
};

/// How long the server holds one question for more, in seconds.
const POLL: f32 = 55.0;

/// The output from its start. It resumes by itself; an error is the last item and no break to resume after.
pub(super) fn chunks(router: Router, descriptor: Descriptor) -> Chunks {
    let open = move |last| -> BoxFuture<'static, _> {
        Box::pin(connect(router.clone(), descriptor, last))
    };
    let batches = follow::follow(open, RetryPolicy::ROUTER, |batch| batch.eof);
    // Whoever reads must not begin again: it would see everything twice.
    let batches = batches.map_err(|broken| Status::aborted(broken.status.message()));
    let chunk = |batch: api::TaskLogsBatch| {
        let text: String = batch.items.into_iter().map(|item| item.data).collect();
        Chunk { data: text.into(), offset: None }
    };
    batches.map_ok(chunk).boxed()
}

async fn connect(
    router: Router,
    descriptor: Descriptor,
    last_entry_id: String,
) -> Result<Batches, Status> {
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
