//! The first words of a server. HTTP/2 has each side begin with a SETTINGS frame (RFC 9113, section 3.4), and a
//! client needs not wait for it; so a port that accepts and stays silent looks connected until calls time out.
//! This wrapper of a connection says what the server began with, and breaks a connection that is not greeted.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::Sleep,
};

/// A server that says nothing for this long after it accepted is no server.
pub(super) const SILENCE: Duration = Duration::from_secs(8);
/// A frame's length, before its type (RFC 9113, section 4.1).
const LENGTH: usize = 3;
const SETTINGS: u8 = 4;

/// What is known of a server's greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    Greeting,
    Problem(io::ErrorKind, String),
}

/// A connection whose first bytes are looked at.
pub(super) struct Greeted<I> {
    io: I,
    waiting: Option<Waiting>,
}

struct Waiting {
    read: usize,
    limit: Duration,
    silence: Pin<Box<Sleep>>,
    heard: watch::Sender<Heard>,
}

impl<I> Greeted<I> {
    /// `limit`: how long the server may say nothing.
    pub(super) fn new(io: I, heard: watch::Sender<Heard>, limit: Duration) -> Self {
        let silence = Box::pin(tokio::time::sleep(limit));
        Self { io, waiting: Some(Waiting { read: 0, limit, silence, heard }) }
    }
}

impl Waiting {
    /// Looks at the bytes that came; true when the greeting is complete.
    fn look(&mut self, bytes: &[u8]) -> io::Result<bool> {
        // Until the type has come, `read` is at most the length before it.
        match bytes.get(LENGTH - self.read) {
            Some(&SETTINGS) => {
                self.heard.send_replace(Heard::Greeting);
                Ok(true)
            }
            Some(_) => Err(self.fail(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server does not speak gRPC's HTTP/2",
            ))),
            None if bytes.is_empty() => Err(self.fail(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection without a word",
            ))),
            None => {
                self.read += bytes.len();
                Ok(false)
            }
        }
    }

    fn silent(&self) -> io::Error {
        let text =
            format!("the server accepted the connection and said nothing for {:?}", self.limit);
        self.fail(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    fn fail(&self, error: io::Error) -> io::Error {
        self.heard.send_replace(Heard::Problem(error.kind(), error.to_string()));
        error
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Greeted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(waiting) = &mut this.waiting else {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        };
        let before = buf.filled().len();
        let complete = match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => waiting.look(&buf.filled()[before..])?,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(waiting.fail(error))),
            Poll::Pending => {
                ready!(waiting.silence.as_mut().poll(cx));
                return Poll::Ready(Err(waiting.silent()));
            }
        };
        if complete {
            this.waiting = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Greeted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a connection on which these pieces come is heard as, and whether reading it failed.
    async fn heard(pieces: &[&[u8]], close: bool) -> (Heard, bool) {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (told, heard) = watch::channel(Heard::Nothing);
        let mut greeted = Greeted::new(ours, told, SILENCE);
        let mut failed = false;
        for piece in pieces {
            theirs.write_all(piece).await.unwrap();
            failed |= greeted.read(&mut [0; 64]).await.is_err();
        }
        if close {
            drop(theirs);
            failed |= greeted.read(&mut [0; 64]).await.is_err();
        }
        (heard.borrow().clone(), failed)
    }

    #[tokio::test]
    async fn a_settings_frame_is_a_greeting_in_however_many_pieces() {
        assert_eq!(heard(&[b"\0\0\0\x04\0\0\0\0\0"], true).await, (Heard::Greeting, false));
        assert_eq!(heard(&[b"\0", b"\0\0", b"\x04"], false).await, (Heard::Greeting, false));
    }

    #[tokio::test]
    async fn another_protocol_and_a_closed_door_are_told_apart() {
        let (other, failed) = heard(&[b"HTTP/1.1 400 Bad Request"], false).await;
        assert!(failed && matches!(other, Heard::Problem(_, text) if text.contains("HTTP/2")));
        let (closed, failed) = heard(&[], true).await;
        assert!(failed && matches!(closed, Heard::Problem(_, text) if text.contains("closed")));
    }

    #[tokio::test]
    async fn silence_ends() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let (told, heard) = watch::channel(Heard::Nothing);
        let error = Greeted::new(ours, told, Duration::from_millis(20))
            .read(&mut [0; 64])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            matches!(&*heard.borrow(), Heard::Problem(_, text) if text.contains("said nothing"))
        );
    }
}
