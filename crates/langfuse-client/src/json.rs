//! Shared pieces of JSON: unknown fields that are kept, times as the SDKs write them.

use jiff::Timestamp;
use serde::Serializer;

/// Fields that this crate does not name, kept as they came.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// A time as the official SDKs write it: UTC, six digits of a second.
pub(crate) fn timestamp<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{time:.6}"))
}

/// As [`timestamp`], for a time that may be absent.
pub(crate) fn optional_timestamp<S: Serializer>(
    time: &Option<Timestamp>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => timestamp(time, to),
        None => to.serialize_none(),
    }
}

/// JSON as a string attribute carries it: a string as it is, everything else encoded.
pub(crate) fn as_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
