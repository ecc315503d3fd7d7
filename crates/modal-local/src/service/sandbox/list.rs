//! Listing sandboxes.

use modal_proto::client::{SandboxInfo, SandboxListRequest, SandboxListResponse, TaskInfo};
use tonic::Status;

use super::metadata;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::{AppId, SandboxId};
use crate::sandbox::{Ending, Filter, SandboxRecord, Tags};

/// One page, newest first. The next begins before the last item's `created_at`; an empty one ends it.
pub(crate) async fn sandbox_list_v2(
    ctx: &Ctx,
    request: SandboxListRequest,
) -> Result<SandboxListResponse, Status> {
    let mut filter = Filter {
        tags: Tags::from_wire(request.tags)?,
        created_before: request.before_timestamp,
        include_finished: request.include_finished,
        ..Filter::default()
    };
    if request.app_id.is_empty() {
        filter.environment_id = Some(ctx.environments.resolve(&request.environment_name).await?.id);
    } else {
        filter.app_id = Some(AppId::parse(&request.app_id).map_err(Error::from)?.to_string());
    }
    let records = ctx.sandboxes.records.list(&filter).await?;
    let mut tags = ctx.sandboxes.records.tags_of(&records).await?;
    let describe = |record: SandboxRecord| {
        let tags = tags.remove(&record.sandbox_id).unwrap_or_default();
        info(ctx, record, &tags)
    };
    Ok(SandboxListResponse { sandboxes: records.into_iter().map(describe).collect() })
}

fn info(ctx: &Ctx, record: SandboxRecord, tags: &Tags) -> SandboxInfo {
    let live = SandboxId::parse(&record.sandbox_id).ok().and_then(|id| ctx.sandboxes.find(&id));
    let running = live.as_ref().and_then(|sandbox| sandbox.running().ok());
    SandboxInfo {
        task_info: Some(task_info(&record)),
        metadata: Some(metadata(&record.app_id, record.ending().as_ref())),
        created_at: record.created_at,
        tags: tags.to_wire(),
        name: record.name.unwrap_or_default(),
        image_id: record.image_id,
        timeout_secs: seconds(record.timeout_secs),
        idle_timeout_secs: record.idle_timeout_secs.map(seconds),
        ready_at: record.ready_at,
        tunnels: running.map(|running| running.tunnels.clone()).unwrap_or_default(),
        app_id: record.app_id,
        id: record.sandbox_id,
        ..Default::default()
    }
}

pub(super) fn task_info(record: &SandboxRecord) -> TaskInfo {
    TaskInfo {
        id: record.task_id.clone(),
        sandbox_id: record.sandbox_id.clone(),
        enqueued_at: record.created_at,
        started_at: record.started_at.unwrap_or_default(),
        finished_at: record.ended_at.unwrap_or_default(),
        result: record.ending().as_ref().map(Ending::result),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> u32 {
    u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
}
