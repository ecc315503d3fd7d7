//! RPCs of `modal run -i`: a function at a breakpoint talks to the terminal of whoever runs it.
//!
//! Its program has had a terminal from the start. Once it asks for the person, a line in the log
//! of its task tells the client that follows the log to send what is typed.

use modal_proto::client::ContainerExecPutInputRequest;
use tonic::Status;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::container::{Identity, announce_terminal};
use crate::ids::TaskId;
use crate::service::router::old_execs;

/// The program waits for a person.
pub(in crate::service) async fn function_start_pty_shell(
    ctx: &Ctx,
    (): (),
    Identity { task, .. }: Identity,
) -> Result<(), Status> {
    if task.place()?.keyboard().await.is_none() {
        return Err(Status::failed_precondition(
            "the function has no terminal: run its app with `modal run -i`",
        ));
    }
    announce_terminal(ctx, &task).await;
    Ok(())
}

/// What a person has typed. Nothing is a sign of life.
pub(in crate::service) async fn container_exec_put_input(
    ctx: &Ctx,
    request: ContainerExecPutInputRequest,
) -> Result<(), Status> {
    if old_execs::is_command(&request.exec_id) {
        return old_execs::put_input(ctx, request).await;
    }
    let id = TaskId::parse(&request.exec_id).map_err(Error::from)?;
    let (_, task) =
        ctx.functions.find_task(&id).ok_or_else(|| Error::not_found("terminal", &id))?;
    let typed = request.input.unwrap_or_default().message;
    task.place()?.type_in(&typed).await?;
    Ok(())
}
