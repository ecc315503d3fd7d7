//! Seqpacket sockets that carry descriptors, and memory files.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};

/// Longest message of the protocol; anything longer goes into a memory file.
pub(crate) const MAX_PACKET: usize = 16 * 1024;
/// Most descriptors beside one message: the layers of a mount and its changes.
const MAX_FDS: usize = 26;

/// One received message.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Two connected ends, close-on-exec.
pub(crate) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message with descriptors.
pub(crate) fn send_packet(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            socket.as_fd(),
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// Receives one message; `None` when the other end is closed.
pub(crate) fn receive_packet(socket: impl AsFd) -> io::Result<Option<Packet>> {
    let mut buffer = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket.as_fd(),
            &mut [IoSliceMut::new(&mut buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    });
    let received = match received {
        Ok(received) => received,
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    buffer.truncate(received.bytes);
    Ok(Some(Packet { bytes: buffer, fds }))
}

/// A descriptor as tokio watches it, for reading, writing or both.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same descriptor, and is the only one to close it, as long as it lives; the
    // `AsyncFd` keeps it that long and gives out shared references only.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// A file in memory with these contents.
pub(crate) fn memory_file(contents: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("runtime-message", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(contents)?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads such a file and closes it.
pub(crate) fn read_memory_file(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    File::from(fd).read_to_end(&mut contents)?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_borders_and_descriptors() {
        let (a, b) = packet_pair().unwrap();
        let file = memory_file(b"inside").unwrap();
        send_packet(&a, b"one", &[file.as_fd()]).unwrap();
        send_packet(&a, b"two", &[]).unwrap();
        let mut one = receive_packet(&b).unwrap().unwrap();
        assert_eq!(one.bytes, b"one");
        assert_eq!(read_memory_file(one.fds.remove(0)).unwrap(), b"inside");
        assert_eq!(receive_packet(&b).unwrap().unwrap().bytes, b"two");
        drop(a);
        assert!(receive_packet(&b).unwrap().is_none());
    }
}
