//! The TUN device as a packet source and sink.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};

/// Without `IFF_VNET_HDR` no packet is longer.
const LONGEST: usize = 1 << 16;

/// One packet a read, one packet a write.
#[derive(Debug)]
pub(crate) struct Tun {
    fd: AsyncFd<OwnedFd>,
}

impl Tun {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        let device = |error: io::Error| Error::Device(error);
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(|errno| device(errno.into()))?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)
            .map_err(|errno| device(errno.into()))?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe because a type may lie about its descriptor; `OwnedFd` does not"
        )]
        let fd = AsyncFd::new(fd).map_err(device)?;
        Ok(Self { fd })
    }

    /// The next packet, in `buffer`. Cancel safe.
    pub(crate) async fn receive<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        buffer.resize(LONGEST, 0);
        loop {
            let mut ready = self.fd.readable().await?;
            let read =
                ready.try_io(|fd| rustix::io::read(fd, &mut buffer[..]).map_err(io::Error::from));
            match read {
                Ok(Ok(size)) => return Ok(&buffer[..size]),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// Hands `packet` to the sandbox's kernel. One that it does not take now is lost, as on any wire.
    pub(crate) fn send(&self, packet: &[u8]) {
        if let Err(error) = rustix::io::write(self.fd.get_ref(), packet) {
            tracing::trace!(%error, size = packet.len(), "packet dropped on its way into the sandbox");
        }
    }
}
