//! The end of a flow that is not the sandbox: a socket to the outside, or the resolver's connection.

use std::io;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::net::{TcpStream, UnixStream};

/// A stream that is read and written only when it is ready, and remembers which halves ended.
#[derive(Debug)]
pub(super) struct FarEnd {
    stream: Stream,
    ended: bool,
    shut: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for FarEnd {
    fn from(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), ended: false, shut: false }
    }
}

impl From<UnixStream> for FarEnd {
    fn from(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), ended: false, shut: false }
    }
}

impl FarEnd {
    pub(super) async fn readable(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.writable().await,
            Stream::Unix(stream) => stream.writable().await,
        }
    }

    /// Reads into `room`, which is not empty; zero is the end.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = match &self.stream {
            Stream::Tcp(stream) => stream.try_read(room),
            Stream::Unix(stream) => stream.try_read(room),
        };
        self.ended |= matches!(read, Ok(0));
        read
    }

    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_write(data),
            Stream::Unix(stream) => stream.try_write(data),
        }
    }

    /// Whether everything was read.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the end was passed on.
    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }

    /// Passes on that the client will send no more.
    pub(super) fn shutdown(&mut self) {
        if !self.shut {
            self.shut = true;
            let done = match &self.stream {
                Stream::Tcp(stream) => shutdown(stream, Shutdown::Write),
                Stream::Unix(stream) => shutdown(stream, Shutdown::Write),
            };
            if let Err(error) = done {
                tracing::trace!(%error, "far end was closed already");
            }
        }
    }

    /// Makes closing the socket a reset.
    pub(super) fn abort(&mut self) {
        if let Stream::Tcp(stream) = &self.stream {
            // Where it fails, the connection is closed in the ordinary way.
            let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
    }
}
