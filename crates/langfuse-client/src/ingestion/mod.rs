//! `POST /ingestion`: the way into versions 2 and 3, and the way of scores into version 4.
//!
//! A batch is answered 207 with a verdict per event; [`Ingestion`] reports each refusal. Version 4 takes the
//! request and refuses every event but scores, so those are refused here before they are sent.
//!
//! Sending an event twice is safe: servers update by the id in its body. Version 2 applies a batch's creates in
//! the order of the events' timestamps and then its updates; fields that are absent leave what is stored.

mod answer;
mod body;
mod deliver;
mod event;

use std::time::Duration;

use bytes::Bytes;

use crate::{
    client::Client,
    error::Result,
    ids::{EventId, ScoreId},
    probe::{ApiVersion, unsupported},
    queue::{Entry, Queue, QueueConfig, Report},
};

pub use answer::{IngestionAnswer, ItemError, ItemSuccess};
pub use body::{
    Level, ObservationBody, ObservationKind, ScoreBody, ScoreType, ScoreValue, TraceBody,
};
pub use event::{Event, EventKind};

pub(crate) use deliver::chain;
use deliver::{Delivery, post};

/// Largest event that is sent: servers refuse a request above 4.5 MB, documented are 3.5 MB.
pub const EVENT_BYTES: usize = 3_500_000;

/// A queue of events for one project. Clones feed the same queue.
#[derive(Debug, Clone)]
pub struct Ingestion {
    queue: Queue,
    version: ApiVersion,
}

impl Client {
    /// Starts a queue; asks the server first which version it is.
    ///
    /// Call [`Ingestion::shutdown`] at the end. Without, the rest is sent as long as the runtime lives.
    ///
    /// # Errors
    /// Those of [`Client::server`].
    pub async fn ingestion(&self, config: QueueConfig) -> Result<Ingestion> {
        let version = self.api().await?;
        let delivery = Delivery::new(self.clone(), config.item_attempts);
        Ok(Ingestion { queue: Queue::start(&config, delivery), version })
    }

    /// Sends one batch at once, without a queue, and hands on the server's verdict on each event.
    ///
    /// # Errors
    /// Where the whole request failed. An event that the server refused is no error here: see
    /// [`IngestionAnswer::errors`].
    pub async fn ingest(&self, events: &[Event]) -> Result<IngestionAnswer> {
        let entries = events.iter().map(Event::entry).collect::<Result<Vec<_>>>()?;
        post(self, &entries).await
    }

    /// As [`Client::ingest`], for events that somebody else wrote: each as JSON, which is passed on as it is.
    ///
    /// # Errors
    /// Where the whole request failed.
    pub async fn ingest_written(&self, events: Vec<(EventId, Bytes)>) -> Result<IngestionAnswer> {
        let entry = |(id, text): (EventId, Bytes)| Entry::new(id.to_string(), text);
        post(self, &events.into_iter().map(entry).collect::<Vec<_>>()).await
    }
}

impl Ingestion {
    /// Takes an event, waiting where the queue is full.
    ///
    /// # Errors
    /// [`crate::Error::EventTooLarge`], [`crate::Error::QueueClosed`], and [`crate::Error::Unsupported`] for
    /// anything but scores on version 4.
    pub async fn send(&self, event: &Event) -> Result<()> {
        self.check(event)?;
        self.queue.push(event.entry()?).await
    }

    /// Takes an event if there is room now.
    ///
    /// # Errors
    /// As [`Ingestion::send`], and [`crate::Error::QueueFull`].
    pub fn try_send(&self, event: &Event) -> Result<()> {
        self.check(event)?;
        self.queue.try_push(event.entry()?)
    }

    /// Queues a score and says its id.
    ///
    /// # Errors
    /// As [`Ingestion::send`].
    pub async fn score(&self, score: ScoreBody) -> Result<ScoreId> {
        let id = score.id.clone();
        self.send(&Event::score(score)).await?;
        Ok(id)
    }

    /// Waits until all that was taken before is confirmed or has failed for good.
    pub async fn flush(&self) -> Report {
        self.queue.flush().await
    }

    /// Sends what waits and stops. After `limit` it gives up: the report says how many are `pending`, hence lost.
    pub async fn shutdown(&self, limit: Duration) -> Report {
        self.queue.shutdown(limit).await
    }

    fn check(&self, event: &Event) -> Result<()> {
        if self.version == ApiVersion::V4 && !matches!(event.kind, EventKind::Score(_)) {
            let operation = "send an ingestion event";
            return Err(unsupported(operation, self.version, "send spans: `Client::spans`"));
        }
        Ok(())
    }
}
