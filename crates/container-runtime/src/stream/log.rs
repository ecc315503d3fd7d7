//! [`OutputLog`]: one writer, any number of readers, each at its own offset.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::readers::{Readers, Ticket};
use super::store::{Caps, Store};

/// The most bytes one [`Chunk`] carries; also the size of one read from the pipe.
pub(super) const CHUNK: usize = 64 << 10;

/// A run of output and where it lies in the whole output of the descriptor.
///
/// Chunks of one reader ascend. Where a chunk starts after the end of the one before it, the bytes between
/// were dropped (see [`Caps`]). `data` is never empty, and its boundaries mean nothing: not lines, not characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of the first byte of `data`.
    pub offset: u64,
    /// The bytes, at most 64 KiB.
    pub data: Bytes,
}

impl Chunk {
    /// The offset after the last byte: where the next reader goes on.
    pub fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

/// Append-only, bounded record of what one descriptor put out. Cloning gives another handle to the same log.
#[derive(Debug, Clone)]
pub struct OutputLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    progress: watch::Sender<Progress>,
    readers: Arc<Readers>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    total: u64,
    finished: bool,
}

impl OutputLog {
    /// An empty log that spills into an unnamed file in `spill_dir` once it outgrows memory.
    pub fn new(spill_dir: impl Into<PathBuf>, caps: Caps) -> Self {
        let store = Mutex::new(Store::new(spill_dir.into(), caps));
        let progress = watch::Sender::new(Progress::default());
        Self { shared: Arc::new(Shared { store, progress, readers: Arc::default() }) }
    }

    /// Adds `data` at the end and wakes the readers. Ignored after [`finish`](Self::finish).
    ///
    /// Writes to the spill file are made here, into the page cache, and so cost microseconds.
    pub fn append(&self, data: &[u8]) {
        if data.is_empty() || self.is_finished() {
            return;
        }
        let total = {
            let mut store = self.store();
            store.append(data);
            store.total()
        };
        self.shared.progress.send_modify(|progress| progress.total = total);
    }

    /// The same, but first lets readers read what would be dropped. A log that somebody reads is therefore
    /// whole however large it grows; one that nobody reads, or whose reader stands still, waits for seconds and
    /// then goes on (see `Readers`). Not cancel safe: a cancelled call may have appended nothing.
    pub async fn append_paced(&self, data: &[u8]) {
        let mut moved = self.shared.readers.movements();
        loop {
            let Some(needed) = self.store().must_be_read(data.len()) else { break };
            let Some(patience) = self.shared.readers.patience(needed) else { break };
            if timeout(patience, moved.changed()).await.is_err() {
                self.shared.readers.give_up(needed);
            }
        }
        self.append(data);
    }

    /// Says that nothing more will come: readers get what is left, then their end.
    pub fn finish(&self) {
        self.shared.progress.send_modify(|progress| progress.finished = true);
    }

    /// Whether [`finish`](Self::finish) was called.
    pub fn is_finished(&self) -> bool {
        self.shared.progress.borrow().finished
    }

    /// All bytes ever appended, kept or not: the offset at which new output will lie.
    pub fn len(&self) -> u64 {
        self.shared.progress.borrow().total
    }

    /// Whether nothing was ever appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that were dropped from the middle because the log had reached its cap.
    pub fn dropped(&self) -> u64 {
        self.store().dropped()
    }

    /// Waits until the log is finished.
    pub async fn finished(&self) {
        let mut progress = self.shared.progress.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = progress.wait_for(|progress| progress.finished).await;
    }

    /// A reader that starts at `offset`; one past the end waits for output to get there.
    pub fn reader(&self, offset: u64) -> Reader {
        let ticket = self.shared.readers.enter(offset);
        Reader { log: self.clone(), progress: self.shared.progress.subscribe(), offset, ticket }
    }

    /// The output from `offset` on, ending when the log is finished and read to its end.
    pub fn read_from(&self, offset: u64) -> impl Stream<Item = Chunk> + Send + 'static + use<> {
        futures::stream::unfold(self.reader(offset), |mut reader| async move {
            let chunk = reader.next().await?;
            Some((chunk, reader))
        })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader's place in an [`OutputLog`].
#[derive(Debug)]
pub struct Reader {
    log: OutputLog,
    progress: watch::Receiver<Progress>,
    offset: u64,
    ticket: Ticket,
}

impl Reader {
    /// The next run of output, or `None` at the end of a finished log. Cancel safe.
    pub async fn next(&mut self) -> Option<Chunk> {
        let wanted = self.offset;
        // Fails only without sender, and `self.log` holds it.
        self.progress
            .wait_for(|progress| progress.finished || progress.total > wanted)
            .await
            .ok()?;
        let (offset, data) = self.log.store().read(wanted, CHUNK)?;
        let chunk = Chunk { offset, data: data.into() };
        self.offset = chunk.end();
        self.ticket.moved_to(self.offset);
        Some(chunk)
    }

    /// Where the next chunk is expected.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn log() -> OutputLog {
        OutputLog::new("/nonexistent", Caps::default())
    }

    async fn text(log: &OutputLog, offset: u64) -> String {
        let chunks = log.read_from(offset).map(|chunk| chunk.data.to_vec()).concat().await;
        String::from_utf8(chunks).unwrap()
    }

    #[tokio::test]
    async fn any_offset_can_be_read_before_and_after_the_end() {
        let log = log();
        log.append(b"hello ");
        let early = tokio::spawn({
            let log = log.clone();
            async move { text(&log, 0).await }
        });
        log.append(b"world");
        log.finish();
        assert_eq!(early.await.unwrap(), "hello world");
        assert_eq!(text(&log, 6).await, "world");
        assert_eq!(text(&log, 11).await, "");
        assert_eq!(text(&log, 500).await, "");
        assert_eq!(log.len(), 11);
    }

    #[tokio::test]
    async fn a_reader_waits_for_output_and_resumes_where_it_stood() {
        let log = log();
        let mut reader = log.reader(0);
        let waiting = tokio::spawn(async move { (reader.next().await, reader.offset()) });
        tokio::task::yield_now().await;
        log.append(b"late");
        let (chunk, offset) = waiting.await.unwrap();
        assert_eq!(chunk, Some(Chunk { offset: 0, data: Bytes::from_static(b"late") }));
        assert_eq!(offset, 4);
    }

    #[tokio::test]
    async fn a_gap_shows_in_the_offsets() {
        let log = OutputLog::new("/nonexistent", Caps { memory: 8, spill: 0 });
        log.append(b"0123456789abcdef");
        log.finish();
        let chunks: Vec<Chunk> = log.read_from(0).collect().await;
        let seen: Vec<(u64, &[u8])> =
            chunks.iter().map(|chunk| (chunk.offset, &chunk.data[..])).collect();
        assert_eq!(seen, [(0, &b"0123"[..]), (12, &b"cdef"[..])]);
        assert_eq!(log.dropped(), 8);
        assert_eq!(log.reader(6).next().await.map(|chunk| chunk.offset), Some(12));
    }

    #[tokio::test]
    async fn nothing_is_taken_after_the_end_and_no_chunk_is_empty() {
        let log = log();
        log.append(b"");
        log.finish();
        log.append(b"too late");
        assert!(log.is_empty());
        assert_eq!(log.read_from(0).count().await, 0);
        log.finished().await;
    }
}
