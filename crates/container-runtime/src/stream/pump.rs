//! [`pump`]: from a pipe into a log, with the rule for output that outlives its program.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::log::{CHUNK, OutputLog};

/// After the program exited, output ends when its pipe was silent for this long.
pub const DRAIN_SILENCE: Duration = Duration::from_millis(250);

/// Copies `reader` into `log` and finishes the log at end of file, or [`DRAIN_SILENCE`] after the last output
/// once `exited` is over. Returns at end of file only: spawn it, and let it drain what a left-over child still
/// writes. Readers are waited for before output is dropped (see [`OutputLog::append_paced`]). An unreadable pipe (EIO of a terminal whose other side closed) counts as its end.
pub async fn pump(reader: impl AsyncRead, log: OutputLog, exited: impl Future<Output = ()>) {
    let mut reader = pin!(reader);
    let mut exited = pin!(exited);
    let mut buffer = vec![0; CHUNK];
    let mut gone = false;
    loop {
        let read = if gone {
            timeout(DRAIN_SILENCE, reader.read(&mut buffer)).await.ok()
        } else {
            tokio::select! {
                biased;
                read = reader.read(&mut buffer) => Some(read),
                () = &mut exited => { gone = true; continue }
            }
        };
        match read {
            Some(Ok(size)) if size > 0 => log.append_paced(&buffer[..size]).await,
            Some(_) => break log.finish(),
            None => {
                log.finish();
                break drain(reader, &mut buffer).await;
            }
        }
    }
}

async fn drain(mut reader: impl AsyncRead + Unpin, buffer: &mut [u8]) {
    while matches!(reader.read(buffer).await, Ok(size) if size > 0) {}
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::StreamExt;
    use tokio::io::AsyncWriteExt;

    use super::super::store::Caps;
    use super::*;

    fn log() -> OutputLog {
        OutputLog::new("/nonexistent", Caps::default())
    }

    async fn bytes(log: &OutputLog) -> Vec<u8> {
        log.read_from(0).map(|chunk| chunk.data.to_vec()).concat().await
    }

    #[tokio::test]
    async fn end_of_file_ends_the_log_though_the_program_still_runs() {
        let log = log();
        pump(&b"all of it"[..], log.clone(), pending()).await;
        assert!(log.is_finished());
        assert_eq!(bytes(&log).await, b"all of it");
    }

    #[tokio::test]
    async fn a_child_that_holds_the_pipe_does_not_hold_the_log_and_gets_no_sigpipe() {
        let log = log();
        let (mut child, pipe) = tokio::io::duplex(16);
        child.write_all(b"hi\n").await.unwrap();
        let pumping = tokio::spawn(pump(pipe, log.clone(), ready(())));
        log.finished().await;
        assert_eq!(bytes(&log).await, b"hi\n");
        child.write_all(&[b'x'; 1000]).await.unwrap();
        drop(child);
        pumping.await.unwrap();
        assert_eq!(log.len(), 3);
    }

    #[tokio::test]
    async fn a_reader_gets_every_byte_however_much_there_is() {
        let log = OutputLog::new("/nonexistent", Caps { memory: 1 << 18, spill: 0 });
        let (mut program, pipe) = tokio::io::duplex(1 << 16);
        let pumping = tokio::spawn(pump(pipe, log.clone(), pending()));
        let reading = tokio::spawn({
            let log = log.clone();
            async move { bytes(&log).await }
        });
        let output: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
        program.write_all(&output).await.unwrap();
        drop(program);
        pumping.await.unwrap();
        assert!(reading.await.unwrap() == output);
    }

    #[tokio::test]
    async fn output_that_nobody_reads_blocks_no_one() {
        let log = OutputLog::new("/nonexistent", Caps { memory: 1 << 16, spill: 0 });
        let (mut program, pipe) = tokio::io::duplex(4096);
        let pumping = tokio::spawn(pump(pipe, log.clone(), pending()));
        program.write_all(&vec![b'a'; 5 << 20]).await.unwrap();
        drop(program);
        pumping.await.unwrap();
        assert_eq!(log.len(), 5 << 20);
        assert_eq!(bytes(&log).await.len() as u64, log.len() - log.dropped());
    }
}
