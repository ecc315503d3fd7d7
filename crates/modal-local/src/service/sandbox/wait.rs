//! Waiting for a sandbox, and ending it.

use std::time::Duration;

use modal_proto::client::{
    SandboxTerminateRequest, SandboxTerminateResponse, SandboxWaitRequest, SandboxWaitResponse,
    SandboxWaitUntilReadyRequest, SandboxWaitUntilReadyResponse,
};
use tonic::Status;

use super::{metadata, record};
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::SandboxId;
use crate::sandbox::Ending;

/// No poll is held longer; the SDKs ask for 10 seconds and then again.
const LONGEST_POLL: Duration = Duration::from_secs(60);
/// How long a terminate call waits for the end that it asked for.
const TERMINATE_WAIT: Duration = Duration::from_secs(5);

/// A long poll. `result` stays unset while the sandbox runs: SDKs take a set one for its end.
pub(crate) async fn sandbox_wait_v2(
    ctx: &Ctx,
    request: SandboxWaitRequest,
) -> Result<SandboxWaitResponse, Status> {
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    let (app_id, ending) = match ctx.sandboxes.find(&id) {
        Some(sandbox) => {
            let limit = poll_limit(request.timeout);
            (sandbox.app.to_string(), sandbox.ended_within(limit).await)
        }
        None => {
            let record = ctx.sandboxes.records.get(&id).await?;
            (record.app_id.clone(), record.ending())
        }
    };
    Ok(SandboxWaitResponse {
        result: ending.as_ref().map(Ending::result),
        metadata: Some(metadata(&app_id, ending.as_ref())),
    })
}

/// Ends a sandbox; one that ended already keeps its end, which is the answer.
pub(crate) async fn sandbox_terminate_v2(
    ctx: &Ctx,
    request: SandboxTerminateRequest,
) -> Result<SandboxTerminateResponse, Status> {
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    let existing = match ctx.sandboxes.find(&id) {
        Some(sandbox) => match sandbox.ending() {
            None => {
                sandbox.request_stop(Ending::terminated(""));
                let _ = sandbox.ended_within(TERMINATE_WAIT).await;
                None
            }
            ended => ended,
        },
        None => ctx.sandboxes.records.get(&id).await?.ending(),
    };
    Ok(SandboxTerminateResponse { existing_result: existing.as_ref().map(Ending::result) })
}

pub(crate) async fn sandbox_wait_until_ready(
    ctx: &Ctx,
    request: SandboxWaitUntilReadyRequest,
) -> Result<SandboxWaitUntilReadyResponse, Status> {
    let record = record(ctx, &request.sandbox_id).await?;
    let id = SandboxId::parse(&record.sandbox_id).map_err(Error::from)?;
    let sandbox = ctx.sandboxes.find(&id);
    let sandbox =
        sandbox.ok_or_else(|| Status::failed_precondition(format!("sandbox `{id}` has ended")))?;
    match tokio::time::timeout(poll_limit(request.timeout), sandbox.ready()).await {
        Ok(ready) => Ok(SandboxWaitUntilReadyResponse { ready_at: ready? }),
        Err(_) => Err(Status::deadline_exceeded(format!("sandbox `{id}` is not ready yet"))),
    }
}

/// A client's seconds as a limit; nonsense counts as "answer at once".
fn poll_limit(seconds: f32) -> Duration {
    Duration::try_from_secs_f32(seconds).unwrap_or_default().min(LONGEST_POLL)
}
