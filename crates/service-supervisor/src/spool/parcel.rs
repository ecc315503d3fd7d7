//! What goes on in one request, and how spans are kept beside events.
//!
//! LiteLLM speaks one of two APIs to Langfuse, by its version: events of the ingestion API, or spans of OTLP. An event
//! is kept as it came; a span, which is no text, as a text of our own that holds it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use langfuse_client::EventId;
use langfuse_client::otlp::{SpanWriter, WrittenSpan};
use serde::{Deserialize, Serialize};

use super::store::{Event, Waiting};

/// The type of the text that holds a span; the ingestion API has none of that name.
const SPAN: &str = "goat-otlp-span";
/// The attribute with what the key hook told LiteLLM of a call, as JSON.
const CLAIMS: &str = "langfuse.observation.metadata.user_api_key_auth_metadata";

/// A span, as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    writer: SpanWriter,
    request: String,
}

/// What goes on in one request.
#[derive(Debug, PartialEq)]
pub(super) enum Parcel {
    /// Events of the ingestion API.
    Events(Vec<(EventId, Bytes)>),
    /// Spans of one writer.
    Spans(SpanWriter, Vec<Bytes>),
}

/// A span as an event; its ids name it, so that it is known when it comes again.
pub(super) fn event(span: &WrittenSpan, writer: &SpanWriter) -> Event {
    let kept = Kept {
        id: format!("{}-{}", span.trace_id, span.span_id),
        kind: SPAN.to_owned(),
        writer: writer.clone(),
        request: STANDARD.encode(&span.request),
    };
    let body = serde_json::to_vec(&kept).unwrap_or_default();
    Event { id: kept.id, body: body.into() }
}

/// The call that a span is of: the door named it, LiteLLM's hook passed the name on.
pub(super) fn call(span: &WrittenSpan) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        call: Option<String>,
    }
    serde_json::from_str::<Claims>(span.text(CLAIMS)?).ok()?.call
}

impl Parcel {
    /// Takes as many of the first events as go together; answers how many those are.
    pub(super) fn of(waiting: &[Waiting]) -> (Self, usize) {
        let kinds = waiting.iter().map(|it| (&it.event, span(&it.event)));
        let mut parcel = Self::Events(Vec::new());
        let mut taken = 0;
        for (event, span) in kinds {
            match (&mut parcel, span) {
                (Self::Events(events), None) => {
                    events.push((event.id.as_str().into(), event.body.clone()));
                }
                (Self::Spans(writer, requests), Some((of, request))) if *writer == of => {
                    requests.push(request);
                }
                (Self::Events(events), Some((of, request))) if events.is_empty() => {
                    parcel = Self::Spans(of, vec![request]);
                }
                _ => break,
            }
            taken += 1;
        }
        (parcel, taken)
    }
}

/// The span that an event is, if it is one.
fn span(event: &Event) -> Option<(SpanWriter, Bytes)> {
    let kept: Kept = serde_json::from_slice(&event.body).ok()?;
    let request = (kept.kind == SPAN).then(|| STANDARD.decode(kept.request).ok())??;
    Some((kept.writer, request.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What LiteLLM sends of one call.
    const RECORDED: &[u8] = include_bytes!("../../../../fixtures/litellm/otlp-1.109.1.bin");

    fn writer(version: &str) -> SpanWriter {
        SpanWriter { ingestion_version: Some(version.to_owned()), ..SpanWriter::default() }
    }

    #[test]
    fn a_request_holds_what_goes_together() {
        let [recorded] = &WrittenSpan::split(RECORDED.into()).unwrap()[..] else { panic!() };
        assert_eq!(call(recorded).as_deref(), Some("abc-1"));
        let text = r#"{"id":"e","type":"trace-create","body":{}}"#;
        let created = Event { id: "e".to_owned(), body: text.into() };
        let (three, four) = (event(recorded, &writer("3")), event(recorded, &writer("4")));
        let all = [&created, &created, &three, &four, &four, &created].map(Event::clone);
        let waiting = all.map(|event| Waiting { seq: 0, event, refusals: 0 });
        let mut left = &waiting[..];
        let mut kinds = Vec::new();
        while !left.is_empty() {
            let (parcel, taken) = Parcel::of(left);
            match parcel {
                Parcel::Events(events) => kinds.push((events.len(), taken)),
                Parcel::Spans(_, spans) => {
                    assert_eq!(spans[0], recorded.request);
                    kinds.push((10 * spans.len(), taken));
                }
            }
            left = &left[taken..];
        }
        assert_eq!(kinds, [(2, 2), (10, 1), (20, 2), (1, 1)]);
    }
}
