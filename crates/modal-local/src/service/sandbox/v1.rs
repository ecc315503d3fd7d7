//! Version 1 of the interface, over the same sandboxes: what differs is how output and input travel.

use std::time::Duration;

use container_runtime::stream::{Chunk, OutputLog};
use futures::StreamExt as _;
use futures::stream;
use modal_proto::client::{
    FileDescriptor, SandboxCreateRequest, SandboxCreateResponse, SandboxGetLogsRequest,
    SandboxGetTaskIdRequest, SandboxGetTaskIdResponse, SandboxGetTunnelsRequest,
    SandboxGetTunnelsResponse, SandboxListRequest, SandboxListResponse, SandboxStdinWriteRequest,
    SandboxStdinWriteResponse, SandboxTagsGetRequest, SandboxTagsGetResponse,
    SandboxTagsSetRequest, SandboxTerminateRequest, SandboxTerminateResponse, SandboxWaitRequest,
    SandboxWaitResponse, TaskGetCommandRouterAccessRequest, TaskGetCommandRouterAccessResponse,
    TaskLogs, TaskLogsBatch,
};
use tokio::time::Instant;
use tonic::Status;

use super::{metadata, router_access};
use crate::caller::Caller;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::{SandboxId, TaskId};
use crate::sandbox::{LiveSandbox, SandboxSpec, StdinError};
use crate::service::BoxStream;

/// A stream of output ends after this long at the latest; the SDKs ask for 55 seconds and then again.
const LONGEST_POLL: Duration = Duration::from_secs(60);

pub(crate) async fn sandbox_create(
    ctx: &Ctx,
    request: SandboxCreateRequest,
) -> Result<SandboxCreateResponse, Status> {
    let answer = |sandbox: &LiveSandbox| SandboxCreateResponse {
        sandbox_id: sandbox.id.to_string(),
        metadata: Some(metadata(sandbox.app.as_str(), None)),
    };
    let sandbox = ctx.sandboxes.create(ctx, SandboxSpec::parse_v1(request)?, answer).await?;
    Ok(answer(&sandbox))
}

pub(crate) async fn sandbox_get_task_id(
    ctx: &Ctx,
    request: SandboxGetTaskIdRequest,
) -> Result<SandboxGetTaskIdResponse, Status> {
    super::sandbox_get_task_id_v2(ctx, request).await
}

pub(crate) async fn sandbox_wait(
    ctx: &Ctx,
    request: SandboxWaitRequest,
) -> Result<SandboxWaitResponse, Status> {
    super::sandbox_wait_v2(ctx, request).await
}

pub(crate) async fn sandbox_terminate(
    ctx: &Ctx,
    request: SandboxTerminateRequest,
) -> Result<SandboxTerminateResponse, Status> {
    super::sandbox_terminate_v2(ctx, request).await
}

pub(crate) async fn sandbox_list(
    ctx: &Ctx,
    request: SandboxListRequest,
) -> Result<SandboxListResponse, Status> {
    super::sandbox_list_v2(ctx, request).await
}

pub(crate) async fn sandbox_tags_get(
    ctx: &Ctx,
    request: SandboxTagsGetRequest,
) -> Result<SandboxTagsGetResponse, Status> {
    super::sandbox_tags_get_v2(ctx, request).await
}

pub(crate) async fn sandbox_tags_set(
    ctx: &Ctx,
    request: SandboxTagsSetRequest,
) -> Result<(), Status> {
    super::sandbox_tags_set_v2(ctx, request).await
}

pub(crate) async fn sandbox_get_tunnels(
    ctx: &Ctx,
    request: SandboxGetTunnelsRequest,
) -> Result<SandboxGetTunnelsResponse, Status> {
    super::sandbox_get_tunnels_v2(ctx, request).await
}

pub(crate) async fn task_get_command_router_access(
    ctx: &Ctx,
    request: TaskGetCommandRouterAccessRequest,
    caller: &Caller,
) -> Result<TaskGetCommandRouterAccessResponse, Status> {
    let task = TaskId::parse(&request.task_id).map_err(Error::from)?;
    if ctx.functions.find_task(&task).is_some() {
        let access = router_access(ctx, &task, caller).await?;
        return Ok(TaskGetCommandRouterAccessResponse { jwt: access.jwt, url: access.url });
    }
    ctx.sandboxes.records.get_by_task(&task).await?;
    ctx.sandboxes.of_task(&task).map_err(|_| {
        Status::failed_precondition(format!("task `{task}` has ended, and its output is gone"))
    })?;
    let access = router_access(ctx, &task, caller).await?;
    Ok(TaskGetCommandRouterAccessResponse { jwt: access.jwt, url: access.url })
}

/// The output of the entrypoint as text, from the byte that the last entry's id names. Ends with a
/// message that says so when there is no more, and without one when the time is over.
pub(crate) async fn sandbox_get_logs(
    ctx: &Ctx,
    request: SandboxGetLogsRequest,
) -> Result<BoxStream<TaskLogsBatch>, Status> {
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    let sandbox = match ctx.sandboxes.find(&id) {
        Some(sandbox) => sandbox,
        None => {
            ctx.sandboxes.records.get(&id).await?;
            return Err(Status::failed_precondition(format!(
                "sandbox `{id}` has ended, and its output is gone"
            )));
        }
    };
    let from = request.file_descriptor();
    let entrypoint = &sandbox.running()?.entrypoint;
    let log = match from {
        FileDescriptor::Stderr => &entrypoint.stderr,
        _ => &entrypoint.stdout,
    };
    let offset = match request.last_entry_id.as_str() {
        // What Python and JavaScript begin with.
        "" | "0-0" => 0,
        text => text.parse().map_err(|_| Status::invalid_argument("unknown `last_entry_id`"))?,
    };
    let limit = Duration::try_from_secs_f32(request.timeout).unwrap_or_default();
    let deadline = Instant::now() + limit.min(LONGEST_POLL);
    Ok(batches(log, offset, from, sandbox.task.to_string(), deadline))
}

fn batches(
    log: &OutputLog,
    offset: u64,
    from: FileDescriptor,
    task_id: String,
    deadline: Instant,
) -> BoxStream<TaskLogsBatch> {
    let batch = move |text: String, at: u64, eof: bool| TaskLogsBatch {
        task_id: task_id.clone(),
        entry_id: at.to_string(),
        items: if text.is_empty() {
            Vec::new()
        } else {
            vec![TaskLogs {
                data: text,
                file_descriptor: from.into(),
                timestamp: clock::now(),
                ..TaskLogs::default()
            }]
        },
        eof,
        ..TaskLogsBatch::default()
    };
    let chunks = log.read_from(offset).map(Some).chain(stream::iter([None]));
    let mut text = Text { pending: Vec::new(), at: offset };
    let messages = chunks.filter_map(move |chunk| {
        let message = match chunk {
            Some(chunk) => {
                let piece = text.push(chunk);
                (!piece.is_empty()).then(|| batch(piece, text.at, false))
            }
            None => Some(batch(text.rest(), text.at, true)),
        };
        futures::future::ready(message.map(Ok))
    });
    messages.take_until(tokio::time::sleep_until(deadline)).boxed()
}

/// Bytes on their way to becoming text: characters are not cut.
struct Text {
    pending: Vec<u8>,
    /// Bytes of the output before `pending`.
    at: u64,
}

impl Text {
    fn push(&mut self, chunk: Chunk) -> String {
        let lost = chunk.offset.saturating_sub(self.at + self.pending.len() as u64);
        let mut text = String::new();
        if lost > 0 {
            text = format!("{}\n[{lost} bytes of output were dropped]\n", self.rest());
            self.at = chunk.offset;
        }
        self.pending.extend_from_slice(&chunk.data);
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.len(),
            Err(error) if error.error_len().is_some() => self.pending.len(),
            Err(error) => error.valid_up_to(),
        };
        text + &self.take(whole)
    }

    fn rest(&mut self) -> String {
        self.take(self.pending.len())
    }

    fn take(&mut self, size: usize) -> String {
        let rest = self.pending.split_off(size);
        let taken = std::mem::replace(&mut self.pending, rest);
        self.at += taken.len() as u64;
        String::from_utf8_lossy(&taken).into_owned()
    }
}

/// Input of the entrypoint. A repeated attempt has the same idempotency key, and writes nothing more.
pub(crate) async fn sandbox_stdin_write(
    ctx: &Ctx,
    request: SandboxStdinWriteRequest,
) -> Result<SandboxStdinWriteResponse, Status> {
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    ctx.sandboxes.records.get(&id).await?;
    let sandbox = ctx.sandboxes.find(&id);
    let sandbox =
        sandbox.ok_or_else(|| Status::failed_precondition(format!("sandbox `{id}` has ended")))?;
    let _in_use = sandbox.activity.begin();
    match sandbox.running()?.entrypoint.stdin.append(&request.input, request.eof).await {
        // Closing what is closed, or what nobody reads, is what was wanted.
        Err(StdinError::Closed | StdinError::Gone(_)) if request.input.is_empty() => {}
        done => done?,
    }
    Ok(SandboxStdinWriteResponse {})
}

#[cfg(test)]
mod tests {
    use container_runtime::stream::Caps;

    use super::*;

    #[tokio::test]
    async fn output_resumes_at_an_entry_and_ends_with_a_message() {
        let log = OutputLog::new("/nonexistent", Caps::default());
        log.append("héllo ".as_bytes());
        log.append(b"wor\xc3");
        log.append(b"\xa9ld");
        log.finish();
        let read = async |offset| {
            let deadline = Instant::now() + Duration::from_secs(30);
            let stream = batches(&log, offset, FileDescriptor::Stdout, String::new(), deadline);
            let batches: Vec<_> = stream.map(|it| it.unwrap()).collect().await;
            assert!(batches.last().unwrap().eof);
            let text = batches.iter().flat_map(|it| &it.items).map(|it| it.data.as_str());
            (text.collect::<String>(), batches.last().unwrap().entry_id.clone())
        };
        assert_eq!(read(0).await, ("héllo woréld".to_owned(), "14".to_owned()));
        assert_eq!(read(7).await, ("woréld".to_owned(), "14".to_owned()));
        assert_eq!(read(14).await, (String::new(), "14".to_owned()));
    }

    #[tokio::test]
    async fn without_more_output_the_stream_ends_in_time_and_says_nothing_of_the_end() {
        let log = OutputLog::new("/nonexistent", Caps::default());
        log.append(b"so far");
        let deadline = Instant::now() + Duration::from_millis(50);
        let stream = batches(&log, 0, FileDescriptor::Stdout, String::new(), deadline);
        let batches: Vec<_> = stream.map(|it| it.unwrap()).collect().await;
        assert_eq!((batches.len(), batches[0].eof), (1, false));
    }
}
