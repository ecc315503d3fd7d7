//! A server that is a program of this machine.
//!
//! It belongs to the run's processes, so it is ended with them whatever happens. What it prints on stderr is kept,
//! the last of it, to be quoted when it fails. A server that sends without end is cut off.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use rmcp::{RoleClient, transport::async_rw::AsyncRwTransport};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    process::{Child, ChildStdin, ChildStdout},
};

use super::{config::Endpoint, server::Fate};
use crate::tool::bash::Processes;

/// Bytes of one message at most.
const LONGEST_MESSAGE: usize = 16 << 20;
/// Bytes that a server may send without having been asked anything.
pub(super) const FLOOD: u64 = 128 << 20;
/// Bytes of stderr that are kept.
const KEPT: usize = 4 << 10;

/// Counts what a server sends between two requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<AtomicU64>);

impl Budget {
    /// A request: the server may answer.
    pub(super) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the server may go on after these bytes.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed) + (bytes as u64) <= FLOOD
    }
}

/// The server's output, up to a flood.
#[derive(Debug)]
pub(super) struct Output {
    inner: ChildStdout,
    budget: Budget,
    fate: Fate,
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Ok(()))) && !self.budget.takes(buffer.filled().len() - before)
        {
            self.fate
                .seal(format!("it sent more than {} MiB unasked and was cut off", FLOOD >> 20));
            buffer.set_filled(before);
        }
        read
    }
}

/// Both ends of a conversation with a program.
pub(super) type Transport = AsyncRwTransport<RoleClient, Output, ChildStdin>;

/// Starts the program of an endpoint.
pub(super) fn start(
    endpoint: &Endpoint,
    processes: &Arc<Processes>,
    budget: &Budget,
    fate: &Fate,
) -> io::Result<Transport> {
    let Endpoint::Stdio { command, args, env, cwd } = endpoint else {
        return Err(io::Error::other("no program"));
    };
    let args = args.iter().map(|arg| arg.expose());
    let env = env.iter().map(|(name, value)| (name.as_str(), value.expose()));
    let mut child = processes.serve(command, args, env, cwd.as_deref())?;
    let missing = || io::Error::other("its input or output is missing");
    let (stdin, stdout) =
        (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
    watch(child, Arc::clone(processes), fate.clone());
    let output = Output { inner: stdout, budget: budget.clone(), fate: fate.clone() };
    Ok(AsyncRwTransport::new(output, stdin).with_max_line_length(LONGEST_MESSAGE))
}

/// Follows stderr and the end of the program.
fn watch(mut child: Child, processes: Arc<Processes>, fate: Fate) {
    let pid = child.id();
    let stderr = child.stderr.take();
    let tail = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&tail);
    let reading = tokio::spawn(async move {
        let Some(mut stderr) = stderr else { return };
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut bytes).await {
            let mut tail = kept.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend_from_slice(&bytes[..count]);
            let surplus = tail.len().saturating_sub(KEPT);
            tail.drain(..surplus);
        }
    });
    tokio::spawn(async move {
        let status = child.wait().await;
        processes.forget(pid);
        // What it said last may still be on its way; a child of its own may hold the pipe for ever.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(200), reading).await;
        let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&tail);
        let last = said.trim().lines().last().unwrap_or_default();
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        fate.seal(match last {
            "" => format!("it ended ({how})"),
            last => format!("it ended ({how}): {}", crate::progress::shorten(last, 300)),
        });
    });
}
