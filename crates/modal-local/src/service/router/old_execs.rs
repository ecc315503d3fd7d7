//! Commands as Python's SDK before 1.2 starts them: by calls of the control plane, not of a command router.
//!
//! They are the same commands in the same table. An id names its task too, so that it is found without another.

use std::sync::Arc;
use std::time::Duration;

use container_runtime::{Exit, ExitStatus};
use futures::StreamExt as _;
use modal_proto::client::{
    ContainerExecGetOutputRequest, ContainerExecPutInputRequest, ContainerExecRequest,
    ContainerExecResponse, ContainerExecWaitRequest, ContainerExecWaitResponse, ExecOutputOption,
    FileDescriptor, RuntimeOutputBatch, RuntimeOutputMessage,
};
use modal_proto::task_command_router::{
    TaskExecStartRequest, TaskExecStderrConfig, TaskExecStdoutConfig,
};
use tonic::Status;

use super::{Host, exec, stdin, stdio};
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::{TaskId, random_suffix};
use crate::sandbox::RunningProcess;
use crate::service::BoxStream;

/// Between a task and what tells its commands apart.
const SEPARATOR: char = ':';
/// Clients ask again after a minute; no call waits longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Whether an id names a command, and not the terminal of a function's container.
pub(in crate::service) fn is_command(exec_id: &str) -> bool {
    exec_id.contains(SEPARATOR)
}

/// Starts a command. A call sent again is answered with the first one's id.
pub(in crate::service) async fn container_exec(
    ctx: &Ctx,
    request: ContainerExecRequest,
) -> Result<ContainerExecResponse, Status> {
    let exec_id = random_suffix();
    let task = TaskId::parse(&request.task_id).map_err(Error::from)?;
    let host = Host::find(ctx, &task)?;
    let answer = ContainerExecResponse { exec_id: format!("{task}{SEPARATOR}{exec_id}") };
    exec::start(ctx, host, start(exec_id, request)).await?;
    Ok(answer)
}

fn start(exec_id: String, request: ContainerExecRequest) -> TaskExecStartRequest {
    let stdout = match request.stdout_output() {
        ExecOutputOption::Devnull => TaskExecStdoutConfig::Devnull,
        _ => TaskExecStdoutConfig::Pipe,
    };
    let stderr = match request.stderr_output() {
        ExecOutputOption::Devnull => TaskExecStderrConfig::Devnull,
        ExecOutputOption::Stdout => TaskExecStderrConfig::Stdout,
        _ => TaskExecStderrConfig::Pipe,
    };
    TaskExecStartRequest {
        task_id: request.task_id,
        exec_id,
        command_args: request.command,
        stdout_config: stdout.into(),
        stderr_config: stderr.into(),
        timeout_secs: Some(request.timeout_secs),
        workdir: request.workdir,
        pty_info: request.pty_info,
        secret_ids: request.secret_ids,
        ..TaskExecStartRequest::default()
    }
}

/// One output of a command, from where the client is, until its end or for as long as the client waits: a client that
/// hears of no end asks again. Its position is a number of bytes.
pub(in crate::service) async fn container_exec_get_output(
    ctx: &Ctx,
    request: ContainerExecGetOutputRequest,
) -> Result<BoxStream<RuntimeOutputBatch>, Status> {
    let process = find(ctx, &request.exec_id).await?;
    let descriptor = request.file_descriptor();
    let log = match descriptor {
        FileDescriptor::Stderr => &process.stderr,
        _ => &process.stdout,
    };
    let is_raw = request.get_raw_bytes;
    let batches = stdio::chunks(log, request.last_batch_index).map(move |chunk| {
        let (mut item, end) = (RuntimeOutputMessage::default(), chunk.end());
        item.file_descriptor = descriptor.into();
        match is_raw {
            true => item.message_bytes = chunk.data.to_vec(),
            false => item.message = String::from_utf8_lossy(&chunk.data).into_owned(),
        }
        Ok(RuntimeOutputBatch {
            items: vec![item],
            batch_index: end,
            ..RuntimeOutputBatch::default()
        })
    });
    let end = async move {
        let exit_code = Some(code(process.wait().await));
        Ok(RuntimeOutputBatch { exit_code, ..RuntimeOutputBatch::default() })
    };
    let limit = tokio::time::sleep(patience(request.timeout));
    Ok(Box::pin(batches.chain(futures::stream::once(end)).take_until(limit)))
}

/// Waits for the end of a command, and no longer than the client does.
pub(in crate::service) async fn container_exec_wait(
    ctx: &Ctx,
    request: ContainerExecWaitRequest,
) -> Result<ContainerExecWaitResponse, Status> {
    let process = find(ctx, &request.exec_id).await?;
    let ended = tokio::time::timeout(patience(request.timeout), process.wait()).await;
    let exit_code = ended.ok().or_else(|| process.exit()).map(code);
    Ok(ContainerExecWaitResponse { exit_code, completed: exit_code.is_some() })
}

/// Takes input; what was taken before is counted here, since these clients send one piece after the other.
pub(in crate::service) async fn put_input(
    ctx: &Ctx,
    request: ContainerExecPutInputRequest,
) -> Result<(), Status> {
    let process = find(ctx, &request.exec_id).await?;
    let input = request.input.unwrap_or_default();
    let written = process.stdin.status().await.bytes;
    stdin::write(&process, written, &input.message, input.eof).await
}

async fn find(ctx: &Ctx, exec_id: &str) -> Result<Arc<RunningProcess>, Status> {
    let (task, id) =
        exec_id.split_once(SEPARATOR).ok_or_else(|| Error::not_found("command", exec_id))?;
    let task = TaskId::parse(task).map_err(Error::from)?;
    Host::find(ctx, &task)?.execs()?.get(id).await
}

fn patience(seconds: f32) -> Duration {
    Duration::try_from_secs_f32(seconds).unwrap_or_default().min(LONGEST)
}

/// The number that a shell shows for an end.
fn code(status: ExitStatus) -> i32 {
    match status.how {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_no_terminal() {
        assert!(is_command("ta-1:abc") && !is_command("ta-1"));
    }

    #[test]
    fn no_client_waits_for_ever() {
        assert_eq!(patience(0.5), Duration::from_millis(500));
        assert_eq!(patience(-1.0), Duration::ZERO);
        assert_eq!(patience(f32::NAN), Duration::ZERO);
        assert_eq!(patience(1e9), LONGEST);
    }
}
