//! Starting commands and learning of their end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use container_runtime::{Exit, ExitStatus};
use modal_proto::client::StringMap;
use modal_proto::task_command_router::{
    TaskExecPollResponse, TaskExecStartRequest, TaskExecStartResponse, TaskExecStderrConfig,
    TaskExecStdoutConfig, TaskExecWaitResponse, task_exec_poll_response, task_exec_wait_response,
};
use tonic::Status;

use super::host::{Host, Surroundings};
use crate::ctx::Ctx;
use crate::failpoint::{Point, reach};
use crate::sandbox::{
    Command, Environment, OutputTo, RunningProcess, check_arguments, describe_exec_error,
    secret_sources, terminal, workdir,
};

/// Starts a command once, however often the client asks for it.
pub(super) async fn start(
    ctx: &Ctx,
    host: Host,
    request: TaskExecStartRequest,
) -> Result<TaskExecStartResponse, Status> {
    let id = request.exec_id.clone();
    let work = run(ctx.clone(), host.clone(), request);
    host.execs()?.start(&id, work).await?;
    Ok(TaskExecStartResponse {})
}

async fn run(
    ctx: Ctx,
    host: Host,
    request: TaskExecStartRequest,
) -> Result<Arc<RunningProcess>, Status> {
    let in_use = host.begin();
    let place = host.container(&request.container_id)?;
    let Surroundings { container, env, workdir, spill_dir } = place.surroundings()?;
    let command = command(&ctx, env, workdir, request).await?;
    reach(Point::ExecStarting);
    let started = RunningProcess::start(&container, command, &spill_dir, in_use).await;
    reach(Point::ExecStarted);
    Ok(Arc::new(started.map_err(|error| refusal(&error))?))
}

async fn command(
    ctx: &Ctx,
    mut env: Environment,
    own_workdir: PathBuf,
    request: TaskExecStartRequest,
) -> Result<Command, Status> {
    if request.command_args.is_empty() {
        return Err(Status::invalid_argument("a command needs at least a program"));
    }
    check_arguments(&request.command_args)?;
    let (stdout, stderr) = (stdout_of(&request), stderr_of(&request));
    let inline = Some(StringMap { contents: request.env });
    let sources = secret_sources(request.secret_sources, request.secret_ids, inline);
    let variables = ctx.secrets.resolve_sources(&sources).await?;
    env.extend(variables.into_iter().map(|(name, value)| (name, value.expose().to_owned())))?;
    let workdir: PathBuf = match request.workdir.as_deref().filter(|dir| !dir.is_empty()) {
        Some(dir) => workdir(dir)?,
        None => own_workdir,
    };
    Ok(Command {
        argv: request.command_args,
        env,
        workdir,
        stdout,
        stderr,
        terminal: terminal(request.pty_info),
        timeout: request
            .timeout_secs
            .filter(|secs| *secs > 0)
            .map(|s| Duration::from_secs(s.into())),
    })
}

fn stdout_of(request: &TaskExecStartRequest) -> OutputTo {
    match request.stdout_config() {
        TaskExecStdoutConfig::Devnull => OutputTo::Null,
        TaskExecStdoutConfig::Pipe => OutputTo::Log,
    }
}

fn stderr_of(request: &TaskExecStartRequest) -> OutputTo {
    match request.stderr_config() {
        TaskExecStderrConfig::Devnull => OutputTo::Null,
        TaskExecStderrConfig::Pipe => OutputTo::Log,
        TaskExecStderrConfig::Stdout => OutputTo::Stdout,
    }
}

/// Why a command was not started. What the client can put right comes first.
fn refusal(error: &container_runtime::Error) -> Status {
    use container_runtime::Error;
    let message = describe_exec_error(error);
    match error {
        Error::ProgramNotFound { .. } | Error::ContainerGone(_) | Error::RuntimeGone => {
            Status::not_found(message)
        }
        Error::Workdir { .. } => Status::failed_precondition(message),
        Error::ProgramNotExecutable { .. } => Status::permission_denied(message),
        Error::InvalidSpec { .. } => Status::invalid_argument(message),
        _ => {
            tracing::warn!(error = message, "a command could not be started");
            Status::failed_precondition(message)
        }
    }
}

/// How a command ended; neither code nor signal while it runs.
pub(super) fn poll(process: &RunningProcess) -> TaskExecPollResponse {
    use task_exec_poll_response::ExitStatus::{Code, Signal};
    let status = process.exit().map(|exit| match exit.how {
        Exit::Code(code) => Code(code),
        Exit::Signal(signal) => Signal(signal),
    });
    TaskExecPollResponse { exit_status: status }
}

/// Waits for the end of a command, and until who reads its output has all of it.
pub(super) async fn wait(process: &RunningProcess) -> TaskExecWaitResponse {
    use task_exec_wait_response::ExitStatus::{Code, Signal};
    let ExitStatus { how, .. } = process.wait().await;
    process.readers.done().await;
    let status = match how {
        Exit::Code(code) => Code(code),
        Exit::Signal(signal) => Signal(signal),
    };
    TaskExecWaitResponse { exit_status: Some(status) }
}
