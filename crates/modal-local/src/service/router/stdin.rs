//! Input of programs.

use std::time::Duration;

use modal_proto::task_command_router::task_exec_stdin_write_stream_request::Payload;
use modal_proto::task_command_router::{
    TaskExecStdinWriteStreamRequest, TaskExecStdinWriteStreamResponse,
    TaskExecStdinWriteStreamStart,
};
use tonic::{Status, Streaming};

use crate::sandbox::{RunningProcess, StdinError, StdinStream};

/// A program that takes no more input is mostly about to exit. Clients look for its exit as soon as
/// they hear of it, so they hear of it when there is one, or after this long.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// Takes input by offset; see [`crate::sandbox`].
pub(super) async fn write(
    process: &RunningProcess,
    offset: u64,
    data: &[u8],
    eof: bool,
) -> Result<(), Status> {
    let written = process.stdin.write(offset, data, eof).await;
    settle(process, written).await
}

/// The first message of a stream.
pub(super) async fn start_of_stream(
    messages: &mut Streaming<TaskExecStdinWriteStreamRequest>,
) -> Result<TaskExecStdinWriteStreamStart, Status> {
    match messages.message().await?.and_then(|message| message.payload) {
        Some(Payload::Start(start)) => Ok(start),
        _ => Err(Status::invalid_argument("a stdin stream begins with `start`")),
    }
}

/// Takes the rest of a stream.
pub(super) async fn stream(
    process: &RunningProcess,
    offset: u64,
    messages: Streaming<TaskExecStdinWriteStreamRequest>,
) -> Result<TaskExecStdinWriteStreamResponse, Status> {
    let opened = process.stdin.open_stream(offset).await;
    let stream = settle(process, opened).await?;
    take(process, stream, messages).await.map(|()| TaskExecStdinWriteStreamResponse {})
}

async fn take(
    process: &RunningProcess,
    mut stream: StdinStream<'_>,
    mut messages: Streaming<TaskExecStdinWriteStreamRequest>,
) -> Result<(), Status> {
    loop {
        let message = tokio::select! {
            biased;
            () = stream.evicted() => return Err(StdinError::Evicted.into()),
            message = messages.message() => message?,
        };
        match message.and_then(|message| message.payload) {
            Some(Payload::Data(data)) => {
                let written = stream.write(&data).await;
                settle(process, written).await?;
            }
            Some(Payload::End(_)) => {
                let ended = stream.end().await;
                return settle(process, ended).await;
            }
            Some(Payload::Start(_)) => {
                return Err(Status::invalid_argument("a stdin stream has one `start`"));
            }
            None => {
                return Err(Status::invalid_argument("the stdin stream broke off before `end`"));
            }
        }
    }
}

/// Where the program takes no more input, waits until its exit can be seen.
async fn settle<T>(process: &RunningProcess, result: Result<T, StdinError>) -> Result<T, Status> {
    if matches!(result, Err(StdinError::Gone(_))) {
        let _ = tokio::time::timeout(EXIT_WAIT, process.wait()).await;
    }
    result.map_err(Status::from)
}
