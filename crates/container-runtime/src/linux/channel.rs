//! The server's end of a seqpacket socket, for tokio.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sys::{self, Packet};

/// Sends and receives whole messages with descriptors; both may go on at once.
#[derive(Debug)]
pub(crate) struct Channel(AsyncFd<OwnedFd>);

impl Channel {
    /// Takes the server's end.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        sys::watch(socket, Interest::READABLE | Interest::WRITABLE).map(Self)
    }

    /// Sends one message; waits while the peer is slow.
    pub(crate) async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, |socket| sys::send_packet(socket, bytes, fds)).await
    }

    /// The next message; `None` when the peer is gone.
    pub(crate) async fn receive(&self) -> io::Result<Option<Packet>> {
        self.0.async_io(Interest::READABLE, |socket| sys::receive_packet(socket)).await
    }
}
