//! Standard input of a program, written from afar: by offset, so that a repeated write adds nothing.
//!
//! Two ways lead in. A *write* carries its offset; what was already taken is skipped, a gap is
//! refused. A *stream* starts at the current offset and owns the input until it ends, breaks, or is
//! evicted by the next stream or by a look at the status; only its end closes the input.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// What a terminal takes for the end of input, at the start of a line.
const END_OF_TRANSMISSION: u8 = 4;

/// Why bytes were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdinError {
    #[error("stdin offset {offset} leaves a gap: {written} bytes were written")]
    Gap { offset: u64, written: u64 },
    #[error("stdin stream must start at offset {written}, not {offset}")]
    NotCurrent { offset: u64, written: u64 },
    #[error("stdin is closed")]
    Closed,
    #[error("the program has ended or closed its stdin")]
    Gone(#[source] Option<io::Error>),
    #[error("another stdin stream took over")]
    Evicted,
}

impl From<StdinError> for Status {
    fn from(error: StdinError) -> Self {
        match error {
            StdinError::Evicted => Self::aborted(error.to_string()),
            _ => Self::failed_precondition(error.to_string()),
        }
    }
}

type Pipe = Box<dyn AsyncWrite + Send + Unpin>;
type Result<T, E = StdinError> = std::result::Result<T, E>;

/// How far writing has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) closed: bool,
}

/// The writing end of one program's standard input.
pub(crate) struct Stdin {
    pipe: Mutex<Option<Pipe>>,
    terminal: bool,
    written: watch::Sender<Written>,
    stream: Arc<Mutex<()>>,
    turns: watch::Sender<u64>,
    ended: CancellationToken,
}

impl Stdin {
    /// `ended` is cancelled when the program is gone; blocked writes then fail.
    pub(crate) fn new(pipe: Option<Pipe>, terminal: bool, ended: CancellationToken) -> Self {
        let closed = pipe.is_none();
        Self {
            pipe: Mutex::new(pipe),
            terminal,
            written: watch::Sender::new(Written { bytes: 0, closed }),
            stream: Arc::default(),
            turns: watch::Sender::new(0),
            ended,
        }
    }

    /// Writes `data`, whose first byte is byte `offset` of the whole input; then closes, if `eof`.
    ///
    /// Waits while the program does not read. Closing alone succeeds also when the program is gone:
    /// clients that only say "no more" need no answer to who listens. Dropping the future keeps what was taken by then.
    pub(crate) async fn write(&self, offset: u64, data: &[u8], eof: bool) -> Result<()> {
        let mut pipe = self.pipe.lock().await;
        let written = self.so_far().bytes;
        let taken = written.checked_sub(offset).ok_or(StdinError::Gap { offset, written })?;
        let fresh = data.get(usize::try_from(taken).unwrap_or(usize::MAX)..).unwrap_or_default();
        self.push(&mut pipe, fresh).await?;
        if eof { self.close(&mut pipe).await } else { Ok(()) }
    }

    /// Writes `data` after all that was written so far; then closes, if `eof`.
    pub(crate) async fn append(&self, data: &[u8], eof: bool) -> Result<()> {
        let mut pipe = self.pipe.lock().await;
        self.push(&mut pipe, data).await?;
        if eof { self.close(&mut pipe).await } else { Ok(()) }
    }

    /// Takes over the input with a stream that starts at `offset`.
    pub(crate) async fn open_stream(&self, offset: u64) -> Result<StdinStream<'_>> {
        let (slot, turn) = self.evict().await;
        let Written { bytes: written, closed } = self.so_far();
        if self.ended.is_cancelled() {
            return Err(StdinError::Gone(None));
        }
        if closed {
            return Err(StdinError::Closed);
        }
        if offset != written {
            return Err(StdinError::NotCurrent { offset, written });
        }
        Ok(StdinStream { stdin: self, turns: self.turns.subscribe(), turn, _slot: slot })
    }

    /// How far writing has come, once a stream that is under way has stopped.
    pub(crate) async fn status(&self) -> Written {
        let _evicted = self.evict().await;
        self.so_far()
    }

    /// The program is gone: gives up the pipe, since what is kept for readers must hold no descriptor.
    pub(crate) async fn abandon(&self) {
        self.ended.cancel();
        self.pipe.lock().await.take();
    }

    fn so_far(&self) -> Written {
        *self.written.borrow()
    }

    /// Stops the stream under way. The answer is the only stream's place and the turn that it holds:
    /// whoever takes a later turn wants the place.
    async fn evict(&self) -> (OwnedMutexGuard<()>, u64) {
        let mut turn = 0;
        self.turns.send_modify(|last| {
            *last += 1;
            turn = *last;
        });
        (Arc::clone(&self.stream).lock_owned().await, turn)
    }

    async fn push(&self, pipe: &mut Option<Pipe>, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            if self.ended.is_cancelled() {
                return Err(StdinError::Gone(None));
            }
            let sink = pipe.as_mut().ok_or(StdinError::Closed)?;
            let size = tokio::select! {
                size = sink.write(data) => size.map_err(|error| StdinError::Gone(Some(error)))?,
                () = self.ended.cancelled() => return Err(StdinError::Gone(None)),
            };
            if size == 0 {
                return Err(StdinError::Gone(None));
            }
            self.written.send_modify(|written| written.bytes += size as u64);
            data = &data[size..];
        }
        Ok(())
    }

    async fn close(&self, pipe: &mut Option<Pipe>) -> Result<()> {
        if let Some(mut sink) = pipe.take() {
            if self.terminal {
                // A program that is gone needs no end of input.
                let _ = sink.write_all(&[END_OF_TRANSMISSION]).await;
            }
            self.written.send_modify(|written| written.closed = true);
        }
        Ok(())
    }
}

/// A stream of input under way.
pub(crate) struct StdinStream<'s> {
    stdin: &'s Stdin,
    turns: watch::Receiver<u64>,
    turn: u64,
    _slot: OwnedMutexGuard<()>,
}

impl StdinStream<'_> {
    pub(crate) async fn write(&mut self, data: &[u8]) -> Result<()> {
        let stdin = self.stdin;
        let push = async { stdin.push(&mut *stdin.pipe.lock().await, data).await };
        tokio::select! {
            biased;
            () = self.evicted() => Err(StdinError::Evicted),
            pushed = push => pushed,
        }
    }

    /// Returns when another stream, or a look at the status, wants this one to stop.
    pub(crate) async fn evicted(&mut self) {
        let turn = self.turn;
        // The sender belongs to `stdin`, which outlives `self`.
        let _ = self.turns.wait_for(|last| *last > turn).await;
    }

    /// The input is complete.
    pub(crate) async fn end(self) -> Result<()> {
        self.stdin.close(&mut *self.stdin.pipe.lock().await).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn stdin(room: usize) -> (Arc<Stdin>, tokio::io::DuplexStream, CancellationToken) {
        let (program, pipe) = tokio::io::duplex(room);
        let ended = CancellationToken::new();
        (Arc::new(Stdin::new(Some(Box::new(pipe)), false, ended.clone())), program, ended)
    }

    #[tokio::test]
    async fn repeated_bytes_are_skipped_and_gaps_refused() {
        let (stdin, mut program, _) = stdin(64);
        stdin.write(0, b"hello ", false).await.unwrap();
        stdin.write(0, b"hello ", false).await.unwrap();
        stdin.write(3, b"lo world", false).await.unwrap();
        assert!(matches!(
            stdin.write(20, b"x", false).await,
            Err(StdinError::Gap { offset: 20, written: 11 })
        ));
        stdin.write(11, b"", true).await.unwrap();
        stdin.write(11, b"", true).await.unwrap();
        assert!(matches!(stdin.write(11, b"more", false).await, Err(StdinError::Closed)));
        let mut read = String::new();
        program.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "hello world");
    }

    #[tokio::test]
    async fn a_look_at_the_status_evicts_a_blocked_stream_and_counts_exactly() {
        let (stdin, mut program, _) = stdin(4);
        let blocked = tokio::spawn({
            let stdin = Arc::clone(&stdin);
            async move { stdin.open_stream(0).await.unwrap().write(b"0123456789").await }
        });
        let mut first = [0; 4];
        program.read_exact(&mut first).await.unwrap();
        let status = stdin.status().await;
        assert!(matches!(blocked.await.unwrap(), Err(StdinError::Evicted)));
        assert!(!status.closed);
        let reading = tokio::spawn(async move {
            let mut rest = String::new();
            program.read_to_string(&mut rest).await.unwrap();
            rest
        });
        let rest = &b"0123456789"[status.bytes as usize..];
        assert!(matches!(stdin.open_stream(99).await, Err(StdinError::NotCurrent { .. })));
        let mut stream = stdin.open_stream(status.bytes).await.unwrap();
        stream.write(rest).await.unwrap();
        stream.end().await.unwrap();
        assert_eq!(reading.await.unwrap(), "456789");
        assert_eq!(stdin.status().await, Written { bytes: 10, closed: true });
    }

    #[tokio::test]
    async fn a_broken_stream_leaves_the_input_open() {
        let (stdin, _program, _) = stdin(64);
        stdin.open_stream(0).await.unwrap().write(b"part").await.unwrap();
        assert_eq!(stdin.status().await, Written { bytes: 4, closed: false });
    }

    #[tokio::test]
    async fn a_write_that_nobody_reads_fails_when_the_program_ends() {
        let (stdin, _program, ended) = stdin(4);
        let blocked = tokio::spawn({
            let stdin = Arc::clone(&stdin);
            async move { stdin.write(0, b"0123456789", false).await }
        });
        ended.cancel();
        let error = Status::from(blocked.await.unwrap().unwrap_err());
        assert_eq!(error.code(), tonic::Code::FailedPrecondition);
        let written = stdin.status().await.bytes;
        stdin.write(written, b"", true).await.unwrap();
    }
}
