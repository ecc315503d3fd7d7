//! Output of commands and sandboxes: a byte stream that survives broken connections.
//!
//! The reader counts the bytes it has passed on. When the stream breaks it is opened again at that
//! offset, so that no byte is lost and none comes twice.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use futures::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use modal_proto::task_command_router as api;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
    time::Instant,
};
use tokio_util::io::StreamReader;

use super::{Router, StreamFailure, lines::OutputLines};
use crate::{
    error::{Error, Operation, Result},
    retry::RetryPolicy,
    rpc::methods,
    sandbox::SandboxVersion,
};

/// Which of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descriptor {
    Stdout,
    Stderr,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Feed {
    /// A command that was started with exec.
    Exec { exec: String, descriptor: Descriptor },
    /// The sandbox's own command.
    Sandbox { descriptor: Descriptor },
}

/// Some bytes and, where the router says it, the offset of the first.
pub(super) struct Chunk {
    pub(super) data: Bytes,
    pub(super) offset: Option<u64>,
}

pub(super) type Chunks = BoxStream<'static, Result<Chunk, tonic::Status>>;

/// The output of a command or a sandbox: an [`AsyncRead`], and a [`Stream`] of chunks of bytes.
/// [`lines`](Self::lines) has it as text, line by line.
///
/// ```no_run
/// # async fn example(sandbox: modal_client::Sandbox) -> modal_client::Result<()> {
/// let process = sandbox.exec(["python", "-u", "train.py"]).await?;
/// let mut lines = process.stdout().lines();
/// while let Some(line) = lines.next_line().await? {
///     println!("{line}");
/// }
/// println!("exit code {}", process.wait().await?);
/// # Ok(())
/// # }
/// ```
///
/// It ends when the output is closed and drained. Reads can be given up and taken up again at any time.
/// What fails carries an [`Error`] inside the I/O error.
pub struct OutputStream {
    pub(super) reader: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
}

impl fmt::Debug for OutputStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputStream").finish_non_exhaustive()
    }
}

impl OutputStream {
    /// `deadline`: when an output that is still open counts as lost.
    pub(crate) fn new(router: Router, feed: Feed, offset: u64, deadline: Option<Instant>) -> Self {
        let verb = match &feed {
            Feed::Exec { descriptor: Descriptor::Stdout, .. } => "read the output of a command in",
            Feed::Exec { descriptor: Descriptor::Stderr, .. } => {
                "read the error output of a command in"
            }
            Feed::Sandbox { descriptor: Descriptor::Stdout } => "read the output of",
            Feed::Sandbox { descriptor: Descriptor::Stderr } => "read the error output of",
        };
        let operation = Operation::new(verb, format!("sandbox `{}`", router.sandbox()));
        let reading = Reading {
            router,
            feed,
            operation,
            offset,
            deadline,
            breaks: 0,
            open: None,
            at_start: true,
        };
        let chunks = stream::try_unfold(reading, |mut reading| async move {
            let next = reading.next().await?;
            Ok::<_, Error>(next.map(|data| (data, reading)))
        });
        Self { reader: StreamReader::new(chunks.map_err(io::Error::from).boxed()) }
    }

    /// Its lines, as they come.
    pub fn lines(self) -> OutputLines {
        OutputLines::new(self)
    }

    /// Everything until the end, as text; bytes that are not UTF-8 are replaced.
    pub async fn read_text(mut self) -> Result<String> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes).await {
            Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => Err(into_error(error)),
        }
    }

    /// Everything until the end.
    pub async fn read_bytes(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).await.map_err(into_error)?;
        Ok(bytes)
    }
}

pub(super) fn into_error(error: io::Error) -> Error {
    let operation = || Operation::new("read", "an output");
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Transport { operation: operation(), source: error.into() },
    }
}

impl AsyncRead for OutputStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl Stream for OutputStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use tokio::io::AsyncBufRead as _;
        let chunk = match Pin::new(&mut self.reader).poll_fill_buf(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(into_error(error)))),
            Poll::Ready(Ok([])) => return Poll::Ready(None),
            Poll::Ready(Ok(bytes)) => Bytes::copy_from_slice(bytes),
        };
        Pin::new(&mut self.reader).consume(chunk.len());
        Poll::Ready(Some(Ok(chunk)))
    }
}

/// A stream that is read, and what it takes to open it again.
struct Reading {
    router: Router,
    feed: Feed,
    operation: Operation,
    /// Bytes passed on so far.
    offset: u64,
    deadline: Option<Instant>,
    /// Breaks in a row without a byte in between.
    breaks: u32,
    open: Option<Chunks>,
    /// Whether the next message is the first of its stream: only that one says where it is.
    at_start: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let chunks = match &mut self.open {
                Some(chunks) => chunks,
                closed => match self.feed.open(&self.router, self.offset, &self.operation).await {
                    Ok(chunks) => {
                        self.at_start = true;
                        closed.insert(chunks)
                    }
                    Err(failure) => {
                        self.pause(failure).await?;
                        continue;
                    }
                },
            };
            match limited(self.deadline, chunks.next()).await {
                Some(None) => return Ok(None),
                Some(Some(Ok(chunk))) => {
                    self.breaks = 0;
                    let data = self.place(chunk);
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
                Some(Some(Err(status))) => {
                    self.open = None;
                    let jwt = self.router.jwt().await;
                    let failure = self
                        .router
                        .stream_failure(status, &jwt, self.feed.rpc(), &self.operation)
                        .await;
                    self.pause(failure).await?;
                }
                None => {
                    let problem = "it was still open when the command's time was over";
                    return Err(Error::deadline(self.operation.clone(), problem));
                }
            }
        }
    }

    /// The part of a chunk that was not passed on before. Moves the offset behind it.
    fn place(&mut self, chunk: Chunk) -> Bytes {
        let mut data = chunk.data;
        let first = std::mem::take(&mut self.at_start);
        if let Some(start) = chunk.offset.filter(|_| first) {
            if start > self.offset {
                let lost = start - self.offset;
                tracing::warn!(operation = %self.operation, lost, "the server dropped a part of the output");
                self.offset = start;
            } else {
                let known = usize::try_from(self.offset - start).unwrap_or(usize::MAX);
                data.advance(known.min(data.len()));
            }
        }
        self.offset += data.len() as u64;
        data
    }

    async fn pause(&mut self, failure: StreamFailure) -> Result<()> {
        let error = match failure {
            StreamFailure::Again(error) if self.breaks < RetryPolicy::ROUTER.retries => error,
            StreamFailure::Again(error) | StreamFailure::Final(error) => return Err(error),
        };
        tracing::debug!(%error, offset = self.offset, "an output broke off and is resumed");
        tokio::time::sleep(RetryPolicy::ROUTER.jittered(self.breaks)).await;
        self.breaks += 1;
        Ok(())
    }
}

async fn limited<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

impl Feed {
    fn rpc(&self) -> &'static str {
        match self {
            Self::Exec { .. } => methods::TASK_EXEC_STDIO_READ.name,
            Self::Sandbox { .. } => methods::SANDBOX_STDIO_READ_V2.name,
        }
    }

    async fn open(
        &self,
        router: &Router,
        offset: u64,
        operation: &Operation,
    ) -> Result<Chunks, StreamFailure> {
        if let (Self::Sandbox { descriptor }, SandboxVersion::V1) = (self, router.version()) {
            return Ok(super::logs_v1::chunks(router.clone(), *descriptor));
        }
        let task = router.task().await.map_err(StreamFailure::Final)?.to_string();
        match self {
            Self::Exec { exec, descriptor } => {
                let query = exec_read_request(task, exec, *descriptor, offset);
                let stream =
                    router.stream(&methods::TASK_EXEC_STDIO_READ, query, operation).await?;
                Ok(stream.map_ok(|answer| Chunk { data: answer.data.into(), offset: None }).boxed())
            }
            Self::Sandbox { descriptor } => {
                let query = sandbox_read_request(task, *descriptor, offset);
                let stream =
                    router.stream(&methods::SANDBOX_STDIO_READ_V2, query, operation).await?;
                let chunk = |answer: api::SandboxStdioReadV2Response| Chunk {
                    data: answer.data.into(),
                    offset: Some(answer.starting_offset),
                };
                Ok(stream.map_ok(chunk).boxed())
            }
        }
    }
}

pub(crate) fn exec_read_request(
    task: String,
    exec: &str,
    descriptor: Descriptor,
    offset: u64,
) -> api::TaskExecStdioReadRequest {
    let file_descriptor = match descriptor {
        Descriptor::Stdout => api::TaskExecStdioFileDescriptor::Stdout,
        Descriptor::Stderr => api::TaskExecStdioFileDescriptor::Stderr,
    };
    api::TaskExecStdioReadRequest {
        task_id: task,
        exec_id: exec.to_owned(),
        offset,
        file_descriptor: file_descriptor.into(),
    }
}

pub(crate) fn sandbox_read_request(
    task: String,
    descriptor: Descriptor,
    offset: u64,
) -> api::SandboxStdioReadV2Request {
    let file_descriptor = match descriptor {
        Descriptor::Stdout => api::SandboxStdioFileDescriptor::Stdout,
        Descriptor::Stderr => api::SandboxStdioFileDescriptor::Stderr,
    };
    api::SandboxStdioReadV2Request {
        task_id: task,
        offset,
        file_descriptor: file_descriptor.into(),
    }
}
