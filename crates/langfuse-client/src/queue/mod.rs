//! The bounded queue between a program that traces itself and a server that may be slow.
//!
//! One worker sends one batch at a time, in order, because servers apply events in the order of arrival. What does
//! not fit waits ([`Queue::push`]) or is refused ([`Queue::try_push`]); nothing is dropped unseen: the [`Report`]
//! counts every event that was taken.

mod report;
mod worker;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot},
    task::AbortHandle,
};

pub(crate) use report::Tally;
pub use report::{Failure, Report};

use crate::error::{Error, Result};

/// Bounds of a queue and of its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Events that wait at most. Default 10,000.
    pub events: usize,
    /// Bytes of JSON or protobuf that wait at most. Default 64 MiB.
    pub bytes: usize,
    /// Events of a batch at most. Default 1,000.
    pub batch_events: usize,
    /// Bytes of a batch. Default 2.5 MB; servers document 3.5 MB and refuse above 4.5 MB.
    pub batch_bytes: usize,
    /// How long an event waits for others before its batch goes. Default 0.5 s.
    pub linger: Duration,
    /// How often an event is sent that the server failed on while it took its batch. Default 3.
    pub item_attempts: u32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            events: 10_000,
            bytes: 64 << 20,
            batch_events: 1_000,
            batch_bytes: 2_500_000,
            linger: Duration::from_millis(500),
            item_attempts: 3,
        }
    }
}

/// An event, written out, with its share of the queue's bytes.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) payload: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Entry {
    /// An entry that is not in a queue.
    pub(crate) fn new(id: String, payload: Bytes) -> Self {
        Self { id, payload, _room: None }
    }
}

/// Sends batches; tells the tally what became of each event.
pub(crate) trait Deliver: Send + Sync + 'static {
    fn deliver(&self, batch: Vec<Entry>, tally: &Tally) -> impl Future<Output = ()> + Send;
}

enum Message {
    Event(Entry),
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// The handle; clones feed the same worker.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    messages: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    tally: Arc<Tally>,
    worker: AbortHandle,
}

impl Queue {
    /// Starts the worker on the current runtime.
    pub(crate) fn start(config: &QueueConfig, delivery: impl Deliver) -> Self {
        let (messages, inbox) = mpsc::channel(config.events.max(1));
        let tally = Arc::new(Tally::default());
        let room = Arc::new(Semaphore::new(units(config.bytes)));
        let work = worker::run(config.clone(), inbox, delivery, Arc::clone(&tally));
        Self { messages, room, tally, worker: tokio::spawn(work).abort_handle() }
    }

    /// Takes an event, waiting for room.
    pub(crate) async fn push(&self, mut entry: Entry) -> Result<()> {
        let room = Arc::clone(&self.room).acquire_many_owned(size(&entry)).await;
        entry._room = Some(room.map_err(|_| Error::QueueClosed)?);
        self.messages.send(Message::Event(entry)).await.map_err(|_| Error::QueueClosed)?;
        self.tally.took();
        Ok(())
    }

    /// Takes an event if there is room now.
    pub(crate) fn try_push(&self, mut entry: Entry) -> Result<()> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(size(&entry));
        entry._room = Some(room.map_err(|error| match error {
            TryAcquireError::Closed => Error::QueueClosed,
            TryAcquireError::NoPermits => Error::QueueFull,
        })?);
        self.messages.try_send(Message::Event(entry)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::QueueFull,
            mpsc::error::TrySendError::Closed(_) => Error::QueueClosed,
        })?;
        self.tally.took();
        Ok(())
    }

    /// Waits until all that was taken before is delivered or failed for good.
    pub(crate) async fn flush(&self) -> Report {
        self.settle(Message::Flush).await;
        self.tally.report()
    }

    /// Takes nothing more, delivers what it has, and stops; after `limit` it gives up, and the report says how much
    /// is `pending`.
    pub(crate) async fn shutdown(&self, limit: Duration) -> Report {
        self.room.close();
        if tokio::time::timeout(limit, self.settle(Message::Close)).await.is_err() {
            self.worker.abort();
        }
        self.tally.report()
    }

    async fn settle(&self, message: impl FnOnce(oneshot::Sender<()>) -> Message) {
        let (done, settled) = oneshot::channel();
        if self.messages.send(message(done)).await.is_ok() {
            // An error means that the worker is gone, and with it all that could be waited for.
            let _ = settled.await;
        }
    }
}

/// Bytes are counted in units, so that a semaphore of 32 bits can hold them.
const UNIT: usize = 256;

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT).clamp(1, u32::MAX as usize >> 1)
}

fn size(entry: &Entry) -> u32 {
    u32::try_from(units(entry.payload.len())).unwrap_or(u32::MAX >> 1)
}

#[cfg(test)]
mod tests;
