//! One event of a batch.

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::{
    EVENT_BYTES,
    body::{ObservationBody, ObservationKind, ScoreBody, TraceBody},
};
use crate::{
    error::{Error, Result},
    ids::EventId,
    queue::Entry,
};

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// A trace begins or changes: version 2 has no other event for changes.
    Trace(TraceBody),
    /// An observation begins.
    Create(ObservationKind, ObservationBody),
    /// A span or generation changes; applied after all creates of its batch.
    Update(ObservationKind, ObservationBody),
    /// A score.
    Score(ScoreBody),
}

impl EventKind {
    /// The event's type on the wire.
    fn type_name(&self) -> std::borrow::Cow<'static, str> {
        match self {
            Self::Trace(_) => "trace-create".into(),
            Self::Create(kind, _) => format!("{}-create", kind.as_str()).into(),
            Self::Update(ObservationKind::Generation, _) => "generation-update".into(),
            Self::Update(_, _) => "span-update".into(),
            Self::Score(_) => "score-create".into(),
        }
    }
}

/// An event: what happened, under an id by which the server's answer names it, with the time that orders it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its own id, not that of what it writes.
    pub id: EventId,
    /// When it was made.
    pub timestamp: Timestamp,
    /// What it says.
    pub kind: EventKind,
}

impl Event {
    fn new(kind: EventKind) -> Self {
        Self { id: EventId::random(), timestamp: Timestamp::now(), kind }
    }

    /// A trace begins or changes.
    pub fn trace(body: TraceBody) -> Self {
        Self::new(EventKind::Trace(body))
    }

    /// An observation begins.
    pub fn create(kind: ObservationKind, body: ObservationBody) -> Self {
        Self::new(EventKind::Create(kind, body))
    }

    /// An observation changes.
    pub fn update(kind: ObservationKind, body: ObservationBody) -> Self {
        Self::new(EventKind::Update(kind, body))
    }

    /// A score.
    pub fn score(body: ScoreBody) -> Self {
        Self::new(EventKind::Score(body))
    }

    /// The event written out, for a queue.
    pub(crate) fn entry(&self) -> Result<Entry> {
        let event = || self.id.to_string();
        let payload = serde_json::to_vec(self)
            .map_err(|error| Error::Unwritable { event: event(), source: error.into() })?;
        if payload.len() > EVENT_BYTES {
            let (bytes, limit) = (payload.len(), EVENT_BYTES);
            return Err(Error::EventTooLarge { event: event(), bytes, limit });
        }
        Ok(Entry::new(event(), payload.into()))
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut event = to.serialize_struct("Event", 4)?;
        event.serialize_field("id", &self.id)?;
        event.serialize_field("type", &self.kind.type_name())?;
        match &self.kind {
            EventKind::Trace(body) => event.serialize_field("body", body)?,
            EventKind::Create(_, body) | EventKind::Update(_, body) => {
                event.serialize_field("body", body)?;
            }
            EventKind::Score(body) => event.serialize_field("body", body)?,
        }
        event.serialize_field("timestamp", &format_args!("{:.6}", self.timestamp))?;
        event.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_no_server_takes_is_refused_at_once() {
        let mut body = TraceBody::new("t");
        body.input = Some("x".repeat(EVENT_BYTES).into());
        let error = Event::trace(body).entry().unwrap_err();
        assert!(matches!(error, Error::EventTooLarge { limit: EVENT_BYTES, .. }));
    }

    #[test]
    fn types_are_those_of_the_wire() {
        let body = || ObservationBody::new("t", "o");
        let name = |kind: EventKind| kind.type_name().into_owned();
        assert_eq!(name(EventKind::Create(ObservationKind::Agent, body())), "agent-create");
        assert_eq!(
            name(EventKind::Update(ObservationKind::Generation, body())),
            "generation-update"
        );
        assert_eq!(name(EventKind::Update(ObservationKind::Span, body())), "span-update");
    }
}
