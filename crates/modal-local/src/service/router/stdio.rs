//! Output, from any offset, while the program runs and afterwards.

use container_runtime::stream::{Chunk, OutputLog};
use futures::StreamExt as _;
use modal_proto::task_command_router::{
    SandboxStdioFileDescriptor, SandboxStdioReadV2Request, SandboxStdioReadV2Response,
    TaskExecStdioFileDescriptor, TaskExecStdioReadRequest, TaskExecStdioReadResponse,
};
use tonic::Status;

use crate::failpoint::{Point, reach};
use crate::sandbox::RunningProcess;
use crate::service::BoxStream;

/// The output of a command. Where bytes were dropped, a line says how many.
pub(super) fn exec_output(
    process: &RunningProcess,
    request: &TaskExecStdioReadRequest,
) -> BoxStream<TaskExecStdioReadResponse> {
    let log = match request.file_descriptor() {
        TaskExecStdioFileDescriptor::Stdout => &process.stdout,
        TaskExecStdioFileDescriptor::Stderr => &process.stderr,
    };
    let mut at = request.offset;
    let is_contents = process.is_contents;
    let reading = process.readers.begin();
    let messages = chunks(log, request.offset).flat_map(move |chunk| {
        let _until_the_last = &reading;
        reach(Point::StreamSending);
        let lost = chunk.offset.saturating_sub(at);
        at = chunk.end();
        let notice = match lost {
            0 => None,
            _ if is_contents => Some(Err(Status::data_loss(format!(
                "{lost} bytes of the file could not be kept for its reader: the disk is full"
            )))),
            _ => Some(Ok(format!("\n[{lost} bytes of output were dropped]\n").into_bytes())),
        };
        let pieces = notice.into_iter().chain([Ok(chunk.data.to_vec())]);
        futures::stream::iter(
            pieces.map(|piece| piece.map(|data| TaskExecStdioReadResponse { data })),
        )
    });
    Box::pin(messages)
}

/// The output of the entrypoint.
///
/// The first message says at which offset it really starts; a client counts on from there. Where
/// bytes were dropped later on, the stream breaks off, so that the next one says it again.
pub(super) fn sandbox_output(
    entrypoint: &RunningProcess,
    request: &SandboxStdioReadV2Request,
) -> BoxStream<SandboxStdioReadV2Response> {
    let log = match request.file_descriptor() {
        SandboxStdioFileDescriptor::Stdout => &entrypoint.stdout,
        SandboxStdioFileDescriptor::Stderr => &entrypoint.stderr,
    };
    let messages = chunks(log, request.offset).scan(None, |expected, chunk: Chunk| {
        let message = match *expected {
            Some(offset) if offset != chunk.offset => {
                Err(Status::unavailable("output was dropped; read on from the offset reached"))
            }
            _ => Ok(SandboxStdioReadV2Response {
                starting_offset: chunk.offset,
                data: chunk.data.to_vec(),
            }),
        };
        *expected = Some(chunk.end());
        futures::future::ready(Some(message))
    });
    Box::pin(messages)
}

/// What a log has from an offset on, until it is finished.
pub(super) fn chunks(
    log: &OutputLog,
    offset: u64,
) -> impl futures::Stream<Item = Chunk> + Send + 'static {
    log.read_from(offset).filter(|chunk| futures::future::ready(!chunk.data.is_empty()))
}

#[cfg(test)]
mod tests {
    use container_runtime::stream::Caps;

    use super::*;

    async fn read(log: &OutputLog, offset: u64) -> Vec<(u64, usize)> {
        chunks(log, offset).map(|chunk| (chunk.offset, chunk.data.len())).collect().await
    }

    #[tokio::test]
    async fn a_finished_log_is_read_from_any_offset_and_ends() {
        let log = OutputLog::new("/nonexistent", Caps::default());
        log.append(b"hello world");
        log.finish();
        assert_eq!(read(&log, 0).await, [(0, 11)]);
        assert_eq!(read(&log, 6).await, [(6, 5)]);
        assert!(read(&log, 11).await.is_empty());
        assert!(read(&log, 99).await.is_empty());
    }
}
