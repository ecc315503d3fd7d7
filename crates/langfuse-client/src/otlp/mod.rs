//! OTLP: the way into versions 3 and 4. Version 2 has no such route.
//!
//! In version 4 there is no record of a trace: every span carries its trace's attributes, which [`Spans`] adds. A
//! span is written once, whole: sending the same span id with the same start time again is a second row until the
//! server merges them, and with another start time a second row for good. Retries here send the same bytes.
//!
//! The server confirms only that it queued a request, and answers with its queue's job, not with OTLP's answer.

mod attributes;
mod deliver;
mod json;
mod proto;
mod span;
mod written;

use std::time::Duration;

use crate::{
    client::Client,
    error::{Error, Result},
    ingestion::{EVENT_BYTES, ObservationBody, ObservationKind, TraceBody},
    probe::{ApiVersion, unsupported},
    queue::{Entry, Queue, QueueConfig, Report},
};

pub use attributes::Experiment;
use deliver::Delivery;
pub use written::{NoExportRequest, SpanWriter, WrittenSpan, export_answer};

/// How spans are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf, as the SDKs send it: ids are 32 and 16 hex digits.
    #[default]
    Protobuf,
    /// JSON: any id is taken and kept as it is, so that those of a version 2 server survive a copy.
    Json,
}

/// An observation that is over, and the trace that it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanRecord<'a> {
    /// What its trace is; goes out with every span.
    pub trace: &'a TraceBody,
    /// What kind of observation.
    pub kind: ObservationKind,
    /// The observation. Without a start time it starts with the trace, else now; without an end it takes no time.
    pub observation: &'a ObservationBody,
    /// The run over a dataset that it is part of.
    pub experiment: Option<&'a Experiment>,
}

/// A queue of spans for one project. Clones feed the same queue.
#[derive(Debug, Clone)]
pub struct Spans {
    queue: Queue,
    encoding: Encoding,
}

impl Client {
    /// Starts a queue of spans; asks the server first which version it is.
    ///
    /// Call [`Spans::shutdown`] at the end. Without, the rest is sent as long as the runtime lives.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on version 2; those of [`Client::server`].
    pub async fn spans(&self, config: QueueConfig, encoding: Encoding) -> Result<Spans> {
        let version = self.api().await?;
        if version == ApiVersion::V2 {
            return Err(unsupported("send spans", version, "send events: `Client::ingestion`"));
        }
        let delivery = Delivery::new(self.clone(), encoding, version);
        Ok(Spans { queue: Queue::start(&config, delivery), encoding })
    }
}

impl Spans {
    /// Takes a span, waiting where the queue is full.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`]; [`Error::Unwritable`] where an id is not of hex digits and the encoding is protobuf;
    /// [`Error::QueueClosed`].
    pub async fn send(&self, span: &SpanRecord<'_>) -> Result<()> {
        self.queue.push(self.entry(span)?).await
    }

    /// Takes a span if there is room now.
    ///
    /// # Errors
    /// As [`Spans::send`], and [`Error::QueueFull`].
    pub fn try_send(&self, span: &SpanRecord<'_>) -> Result<()> {
        self.queue.try_push(self.entry(span)?)
    }

    /// Waits until the server has queued all that was taken before, or it has failed for good.
    pub async fn flush(&self) -> Report {
        self.queue.flush().await
    }

    /// Sends what waits and stops; after `limit` it gives up, see [`Report::pending`].
    pub async fn shutdown(&self, limit: Duration) -> Report {
        self.queue.shutdown(limit).await
    }

    fn entry(&self, record: &SpanRecord<'_>) -> Result<Entry> {
        let span = span::Span::from(record);
        let event = || record.observation.id.to_string();
        let payload = match self.encoding {
            Encoding::Protobuf => proto::span(&span)
                .map_err(|error| Error::Unwritable { event: event(), source: error.into() })?,
            Encoding::Json => json::span(&span).to_string().into(),
        };
        if payload.len() > EVENT_BYTES {
            let (bytes, limit) = (payload.len(), EVENT_BYTES);
            return Err(Error::EventTooLarge { event: event(), bytes, limit });
        }
        Ok(Entry::new(event(), payload))
    }
}

#[cfg(test)]
mod tests;
