//! Input of commands and sandboxes. Each write names its offset, so that one that is repeated after a
//! broken connection is taken once.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    future::BoxFuture,
    stream::{self, StreamExt as _},
};
use modal_proto::task_command_router as api;
use tokio::io::AsyncWrite;

use super::{Router, RouterFailure, StreamFailure};
use crate::{
    error::{Error, Operation, Result},
    retry::RetryPolicy,
    rpc::{Failure, methods},
    sandbox::SandboxVersion,
};

/// The most that one write sends.
const WRITE: usize = 1024 * 1024;
/// The pieces of a streamed input.
const PIECE: usize = 256 * 1024;

/// Whose input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Exec(String),
    Sandbox,
}

/// The input of a command or a sandbox: an [`AsyncWrite`]. A write is on its way when it returns and has
/// arrived when a flush returns; `shutdown` closes the input.
///
/// Writing to a command that has ended fails with [`io::ErrorKind::BrokenPipe`].
pub struct StdinWriter {
    router: Router,
    target: Target,
    offset: u64,
    /// Writes so far: sandboxes of version 1 count them instead of bytes.
    writes: u32,
    /// Only ever used through `&mut`; the lock makes the writer, and the process that holds it, `Sync`.
    pending: Mutex<Option<BoxFuture<'static, Result<()>>>>,
    closed: bool,
}

impl fmt::Debug for StdinWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinWriter")
            .field("offset", &self.offset)
            .field("closed", &self.closed)
            .finish()
    }
}

impl StdinWriter {
    pub(crate) fn new(router: Router, target: Target) -> Self {
        Self::at(router, target, 0)
    }

    /// A writer that goes on behind bytes that were written before.
    pub(crate) fn at(router: Router, target: Target, offset: u64) -> Self {
        Self { router, target, offset, writes: 0, pending: Mutex::new(None), closed: false }
    }

    /// Where the next write goes.
    fn place(&mut self, length: usize) -> Place {
        let offset = self.offset;
        self.offset += length as u64;
        self.writes += 1;
        Place { offset, index: self.writes }
    }

    /// Writes the last bytes and closes the input, in one call.
    ///
    /// # Errors
    /// As for writing; what was written before counts too.
    pub async fn finish(mut self, data: impl Into<Vec<u8>>) -> Result<()> {
        let pending =
            self.pending.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(pending) = pending {
            pending.await?;
        }
        let data = data.into();
        let place = self.place(data.len());
        write(&self.router, &self.target, place, data, true).await
    }

    fn start(&mut self, data: Vec<u8>, eof: bool) {
        let place = self.place(data.len());
        let (router, target) = (self.router.clone(), self.target.clone());
        *self.pending() =
            Some(Box::pin(async move { write(&router, &target, place, data, eof).await }));
    }

    fn pending(&mut self) -> &mut Option<BoxFuture<'static, Result<()>>> {
        self.pending.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(pending) = self.pending() else { return Poll::Ready(Ok(())) };
        let Poll::Ready(done) = pending.as_mut().poll(cx) else { return Poll::Pending };
        *self.pending() = None;
        Poll::Ready(done.map_err(io::Error::from))
    }
}

impl AsyncWrite for StdinWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match self.poll_pending(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        let length = buf.len().min(WRITE);
        self.start(buf[..length].to_vec(), false);
        match self.poll_pending(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(length)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pending(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_pending(cx) {
            Poll::Ready(Ok(())) if !self.closed => {
                self.closed = true;
                self.start(Vec::new(), true);
                self.poll_pending(cx)
            }
            settled => settled,
        }
    }
}

/// Where a write goes: which byte it begins at, and which write it is, from 1.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    index: u32,
}

async fn write(
    router: &Router,
    target: &Target,
    place: Place,
    data: Vec<u8>,
    eof: bool,
) -> Result<()> {
    let operation = operation(router);
    if *target == Target::Sandbox && router.version() == SandboxVersion::V1 {
        return write_v1(router, place.index, data, eof, operation).await;
    }
    let offset = place.offset;
    let task_id = router.task().await?.to_string();
    let (name, sent) = match target {
        Target::Exec(exec) => {
            let query = exec_write_request(task_id, exec, offset, data, eof);
            let method = &methods::TASK_EXEC_STDIN_WRITE;
            (method.name, router.unary(method, &query, &operation, None).await.map(drop))
        }
        Target::Sandbox => {
            let query = api::SandboxStdinWriteV2Request { task_id, offset, data, eof };
            let method = &methods::SANDBOX_STDIN_WRITE_V2;
            (method.name, router.unary(method, &query, &operation, None).await.map(drop))
        }
    };
    match sent {
        Err(failure) if eof && may_have_closed(&failure) => Ok(()),
        sent => sent.map_err(|failure| failure.into_error(name, operation)),
    }
}

/// Whether an earlier attempt, whose answer was lost, may have closed the input: a command that ends
/// at the end of its input refuses the repetition.
fn may_have_closed(failure: &RouterFailure) -> bool {
    let refused = failure.code() == Some(tonic::Code::FailedPrecondition);
    matches!(failure, RouterFailure::Status(Failure { attempts: 2.., .. }) if refused)
}

async fn write_v1(
    router: &Router,
    index: u32,
    input: Vec<u8>,
    eof: bool,
    operation: Operation,
) -> Result<()> {
    let query = modal_proto::client::SandboxStdinWriteRequest {
        sandbox_id: router.sandbox().to_string(),
        input,
        index,
        eof,
    };
    router.client().call(&methods::SANDBOX_STDIN_WRITE, &query, operation).await.map(drop)
}

/// A writer that goes on where the input of a command stands, whoever wrote it.
pub(crate) async fn resume(router: Router, exec: String) -> Result<StdinWriter> {
    let task = router.task().await?.to_string();
    let status = status(&router, &task, &exec, &operation(&router)).await?;
    let mut writer = StdinWriter::at(router, Target::Exec(exec), status.num_bytes_written);
    writer.closed = status.closed;
    Ok(writer)
}

fn operation(router: &Router) -> Operation {
    Operation::new("write to the input of", format!("sandbox `{}`", router.sandbox()))
}

pub(crate) fn exec_write_request(
    task_id: String,
    exec: &str,
    offset: u64,
    data: Vec<u8>,
    eof: bool,
) -> api::TaskExecStdinWriteRequest {
    api::TaskExecStdinWriteRequest { task_id, exec_id: exec.to_owned(), offset, data, eof }
}

/// Sends a whole input as a stream and closes it. After a break the router is asked how much it has,
/// and the rest is sent.
pub(crate) async fn send_all(router: &Router, exec: &str, data: Bytes) -> Result<()> {
    let operation = operation(router);
    let task = router.task().await?.to_string();
    let mut offset = 0;
    let mut breaks = 0;
    loop {
        let messages = stream_requests(&task, exec, offset, &data);
        let method = &methods::TASK_EXEC_STDIN_WRITE_STREAM;
        let failure = match router.upload(method, stream::iter(messages).boxed(), &operation).await
        {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        let error = match failure {
            StreamFailure::Again(error) if breaks < RetryPolicy::ROUTER.retries => error,
            StreamFailure::Again(error) | StreamFailure::Final(error) => return Err(error),
        };
        tracing::debug!(%error, "an input broke off and is resumed");
        tokio::time::sleep(RetryPolicy::ROUTER.jittered(breaks)).await;
        breaks += 1;
        let written = status(router, &task, exec, &operation).await?;
        if written.closed && written.num_bytes_written >= data.len() as u64 {
            return Ok(());
        }
        if written.closed || written.num_bytes_written > data.len() as u64 {
            return Err(Error::protocol(
                operation,
                "the input was closed before all of it was sent",
            ));
        }
        offset = written.num_bytes_written;
    }
}

async fn status(
    router: &Router,
    task: &str,
    exec: &str,
    operation: &Operation,
) -> Result<api::TaskExecStdinStatusResponse> {
    let query =
        api::TaskExecStdinStatusRequest { task_id: task.to_owned(), exec_id: exec.to_owned() };
    let method = &methods::TASK_EXEC_STDIN_STATUS;
    let asked = router.unary(method, &query, operation, None).await;
    asked.map_err(|failure| failure.into_error(method.name, operation.clone()))
}

pub(crate) fn stream_requests(
    task: &str,
    exec: &str,
    offset: u64,
    data: &Bytes,
) -> Vec<api::TaskExecStdinWriteStreamRequest> {
    use api::task_exec_stdin_write_stream_request::Payload;
    let start = api::TaskExecStdinWriteStreamStart {
        task_id: task.to_owned(),
        exec_id: exec.to_owned(),
        offset,
    };
    let rest = data.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(data.len())..);
    let pieces = rest.chunks(PIECE).map(|piece| Payload::Data(piece.to_vec())).collect::<Vec<_>>();
    let end = Payload::End(api::TaskExecStdinWriteStreamEnd {});
    let payloads = [Payload::Start(start)].into_iter().chain(pieces).chain([end]);
    payloads
        .map(|payload| api::TaskExecStdinWriteStreamRequest { payload: Some(payload) })
        .collect()
}
