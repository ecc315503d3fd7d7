//! RPCs of sandboxes and of their tasks.

mod connect;
mod create;
mod list;
mod lookup;
mod names;
mod persistent;
mod policy;
mod sidecar;
mod snapshot;
mod v1;
mod wait;

use modal_proto::client::{CommandRouterAccess, SandboxHandleMetadata};
use tonic::Status;

pub(crate) use self::connect::{sandbox_create_connect_token, sandbox_create_connect_token_v2};
pub(crate) use self::create::sandbox_create_v2;
pub(crate) use self::list::sandbox_list_v2;
pub(crate) use self::lookup::{
    sandbox_get_command_router_access, sandbox_get_from_name, sandbox_get_from_name_v2,
    sandbox_get_task_id_v2, sandbox_get_tunnels_v2, task_get_info,
};
pub(crate) use self::names::{sandbox_set_name, sandbox_tags_get_v2, sandbox_tags_set_v2};
pub(crate) use self::persistent::{
    persistent_sandbox_create, persistent_sandbox_get, persistent_sandbox_resume,
    persistent_sandbox_terminate, persistent_sandbox_tunnels_list,
};
pub(crate) use self::policy::{sandbox_set_outbound_policy, sandbox_set_outbound_policy_v2};
pub(crate) use self::sidecar::sandbox_container_create_v2;
pub(crate) use self::snapshot::{
    sandbox_get_exit_snapshot, sandbox_get_exit_snapshot_v2, sandbox_snapshot_fs,
    sandbox_snapshot_fs_async, sandbox_snapshot_fs_async_get,
};
pub(crate) use self::v1::{
    sandbox_create, sandbox_get_logs, sandbox_get_task_id, sandbox_get_tunnels, sandbox_list,
    sandbox_stdin_write, sandbox_tags_get, sandbox_tags_set, sandbox_terminate, sandbox_wait,
    task_get_command_router_access,
};
pub(crate) use self::wait::{sandbox_terminate_v2, sandbox_wait_until_ready, sandbox_wait_v2};
use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::{SandboxId, TaskId};
use crate::sandbox::{Ending, SandboxRecord};

/// How to reach the command router, in the form that the caller's SDK accepts.
async fn router_access(
    ctx: &Ctx,
    task: &TaskId,
    caller: &Caller,
) -> Result<CommandRouterAccess, Status> {
    let url = if caller.needs_tls {
        format!("https://{}", ctx.tls_door.authority(ctx).await?)
    } else {
        format!("{}://{}", caller.router_scheme(), ctx.authority())
    };
    Ok(CommandRouterAccess { jwt: ctx.auth.issue_router_token(task), url })
}

/// What the SDKs keep of a sandbox; logs need the app's id.
fn metadata(app_id: &str, ending: Option<&Ending>) -> SandboxHandleMetadata {
    SandboxHandleMetadata { app_id: app_id.to_owned(), result: ending.map(Ending::result) }
}

async fn record(ctx: &Ctx, sandbox_id: &str) -> Result<SandboxRecord, Status> {
    let id = SandboxId::parse(sandbox_id).map_err(Error::from)?;
    Ok(ctx.sandboxes.records.get(&id).await?)
}
