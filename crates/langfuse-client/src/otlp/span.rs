//! A span, before it is written as protobuf or JSON.

use jiff::Timestamp;

use super::{
    SpanRecord,
    attributes::{Attributes, attributes},
};

/// OpenTelemetry's fields, of those that Langfuse reads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) parent_span_id: Option<String>,
    pub(super) name: String,
    /// Nanoseconds since 1970.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Attributes,
}

/// `SPAN_KIND_INTERNAL`.
pub(super) const KIND: i32 = 1;
/// The bit that says it is known whether the parent is remote; it is not.
pub(super) const FLAGS: u32 = 0x100;

impl From<&SpanRecord<'_>> for Span {
    fn from(record: &SpanRecord<'_>) -> Self {
        let observation = record.observation;
        let start = observation.start_time.or(record.trace.timestamp);
        let start = start.unwrap_or_else(Timestamp::now);
        let end = observation.end_time.unwrap_or(start).max(start);
        let name = observation.name.clone().or_else(|| record.trace.name.clone());
        Self {
            trace_id: observation.trace_id.to_string(),
            span_id: observation.id.to_string(),
            parent_span_id: observation.parent_observation_id.as_ref().map(ToString::to_string),
            name: name.unwrap_or_else(|| record.kind.as_str().to_owned()),
            start: nanoseconds(start),
            end: nanoseconds(end),
            attributes: attributes(record),
        }
    }
}

/// Times before 1970 cannot be written; they become its first moment.
fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
