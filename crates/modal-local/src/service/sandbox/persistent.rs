//! RPCs of persistent sandboxes: begun, looked up, gone on with, ended for good.

use std::sync::Arc;

use futures::FutureExt as _;
use modal_proto::client::persistent_sandbox_get_request::Lookup;
use modal_proto::client::{
    PersistentSandboxCreateRequest, PersistentSandboxCreateResponse, PersistentSandboxGetRequest,
    PersistentSandboxGetResponse, PersistentSandboxResumeRequest, PersistentSandboxResumeResponse,
    PersistentSandboxTerminateRequest, PersistentSandboxTerminateResponse,
    PersistentSandboxTunnelsListRequest, PersistentSandboxTunnelsListResponse, Sandbox,
    SandboxCreateV2Request, SandboxCreateV2Response,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::{ImageId, PersistentSandboxId};
use crate::sandbox::{Ending, ExitSnapshot, LiveSandbox, PersistentRecord, SandboxSpec};

pub(crate) async fn persistent_sandbox_create(
    ctx: &Ctx,
    request: PersistentSandboxCreateRequest,
) -> Result<PersistentSandboxCreateResponse, Status> {
    refuse_unsupported(request.definition.as_ref())?;
    let definition = SandboxCreateV2Request {
        app_id: request.app_id,
        definition: request.definition,
        ..SandboxCreateV2Request::default()
    };
    let spec = SandboxSpec::parse(definition.clone())?;
    let (id, image) = (PersistentSandboxId::random(), spec.image.clone());
    let first = begin(ctx, spec).await?;
    let inserted = ctx.sandboxes.persistent.insert(&id, &definition, &image, &first.id).await;
    if inserted.is_err() {
        first.request_stop(Ending::internal("it could not be recorded"));
    }
    Ok(inserted?)
}

/// The sandbox of it that runs; none while it is paused.
pub(crate) async fn persistent_sandbox_get(
    ctx: &Ctx,
    request: PersistentSandboxGetRequest,
) -> Result<PersistentSandboxGetResponse, Status> {
    let id = match request.lookup {
        Some(Lookup::PersistentSandboxId(id)) => parse(&id)?,
        Some(Lookup::Name(lookup)) => {
            return Err(Error::not_found("persistent sandbox", &lookup.name).into());
        }
        None => return Err(Status::invalid_argument("name a persistent sandbox")),
    };
    let record = ctx.sandboxes.persistent.get(&id).await?;
    Ok(PersistentSandboxGetResponse {
        persistent_sandbox_id: id.to_string(),
        sandbox_id: running(ctx, &record)?.map(|it| it.id.to_string()).unwrap_or_default(),
    })
}

/// Goes on with what the last sandbox of it left; while that one is ending, clients ask again.
pub(crate) async fn persistent_sandbox_resume(
    ctx: &Ctx,
    request: PersistentSandboxResumeRequest,
) -> Result<PersistentSandboxResumeResponse, Status> {
    let id = parse(&request.persistent_sandbox_id)?;
    let persistent = &ctx.sandboxes.persistent;
    persistent.get(&id).await?;
    let Some(_resuming) = persistent.begin_resuming(&id) else {
        return Err(Status::unavailable(format!("`{id}` is being resumed")));
    };
    let record = persistent.get(&id).await?;
    if record.is_terminated() {
        return Err(terminated(&id));
    }
    let sandbox = match running(ctx, &record)? {
        Some(sandbox) => sandbox,
        None => {
            let image = left_by(ctx, &record).await?;
            let spec = SandboxSpec::parse(record.definition()?)?;
            let next = begin(ctx, SandboxSpec { image: image.clone(), ..spec }).await?;
            persistent.set_latest(&id, &next.id, &image).await?;
            // Who terminated it meanwhile did not know of this one.
            if persistent.get(&id).await?.is_terminated() {
                next.request_stop(Ending::terminated(""));
                return Err(terminated(&id));
            }
            next
        }
    };
    Ok(PersistentSandboxResumeResponse { sandbox_id: sandbox.id.to_string() })
}

fn terminated(id: &PersistentSandboxId) -> Status {
    Status::failed_precondition(format!("persistent sandbox `{id}` has been terminated"))
}

pub(crate) async fn persistent_sandbox_terminate(
    ctx: &Ctx,
    request: PersistentSandboxTerminateRequest,
) -> Result<PersistentSandboxTerminateResponse, Status> {
    let id = parse(&request.persistent_sandbox_id)?;
    ctx.sandboxes.persistent.get(&id).await?;
    ctx.sandboxes.persistent.set_terminated(&id).await?;
    let record = ctx.sandboxes.persistent.get(&id).await?;
    if let Some(sandbox) = running(ctx, &record)? {
        sandbox.request_stop(Ending::terminated(""));
    }
    Ok(PersistentSandboxTerminateResponse {})
}

pub(crate) async fn persistent_sandbox_tunnels_list(
    ctx: &Ctx,
    request: PersistentSandboxTunnelsListRequest,
) -> Result<PersistentSandboxTunnelsListResponse, Status> {
    let id = parse(&request.persistent_sandbox_id)?;
    let record = ctx.sandboxes.persistent.get(&id).await?;
    let tunnels = match running(ctx, &record)? {
        Some(sandbox) => sandbox.running()?.tunnels.clone(),
        None => Vec::new(),
    };
    Ok(PersistentSandboxTunnelsListResponse { tunnels })
}

/// What the SDK refuses too: a name would be of one sandbox only, and a value of a secret would be
/// written down with the definition.
fn refuse_unsupported(definition: Option<&Sandbox>) -> Result<(), Status> {
    let has_name = definition.is_some_and(|it| it.name.as_ref().is_some_and(|it| !it.is_empty()));
    let has_values = definition.is_some_and(|it| it.environment_variables.is_some());
    match (has_name, has_values) {
        (true, _) => Err(Status::invalid_argument("a persistent sandbox cannot have a name yet")),
        (_, true) => Err(Status::invalid_argument(
            "a persistent sandbox takes environment variables from named secrets alone",
        )),
        _ => Ok(()),
    }
}

async fn begin(ctx: &Ctx, spec: SandboxSpec) -> Result<Arc<LiveSandbox>, Status> {
    let spec = SandboxSpec { exit_snapshot: true, ..spec };
    // Its client is never told of this one alone: what it is answered is written down with the record.
    let unanswered = |_: &LiveSandbox| SandboxCreateV2Response::default();
    Ok(ctx.sandboxes.create(ctx, spec, unanswered).await?)
}

/// Its sandbox, unless that has ended or is about to.
fn running(ctx: &Ctx, record: &PersistentRecord) -> Result<Option<Arc<LiveSandbox>>, Status> {
    let latest = ctx.sandboxes.find(&record.latest()?);
    Ok(latest.filter(|sandbox| {
        sandbox.ending().is_none()
            && sandbox.container().is_ok()
            && sandbox.stop_requested().now_or_never().is_none()
    }))
}

/// The image that the latest sandbox left at its end. If it left none, for the server was killed, it is
/// the one that this sandbox began with.
async fn left_by(ctx: &Ctx, record: &PersistentRecord) -> Result<ImageId, Status> {
    let latest = record.latest()?;
    let is_ending = ctx.sandboxes.find(&latest).is_some_and(|it| it.ending().is_none());
    if is_ending {
        return Err(Status::unavailable(format!("sandbox `{latest}` is ending")));
    }
    match ctx.sandboxes.exit_snapshots.get(&latest).await? {
        Some(ExitSnapshot::Taken(image)) => Ok(ImageId::parse(&image).map_err(Error::from)?),
        _ => Ok(record.image()?),
    }
}

fn parse(id: &str) -> Result<PersistentSandboxId, Status> {
    Ok(PersistentSandboxId::parse(id).map_err(Error::from)?)
}
