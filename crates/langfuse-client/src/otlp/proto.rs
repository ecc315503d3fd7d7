//! OTLP as protobuf. Field numbers: opentelemetry-proto 1.x, `trace/v1/trace.proto`, `common/v1/common.proto`,
//! `resource/v1/resource.proto`, `collector/trace/v1/trace_service.proto`.
//!
//! Spans are encoded one by one when they are taken; a request holds them as bytes, which on the wire is the same.

use bytes::Bytes;
use prost::Message;

use super::{
    attributes::AttributeValue,
    span::{FLAGS, KIND, Span},
};

/// An id that protobuf cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id `{id}` is not of {digits} hex digits; send such ids as JSON: `Encoding::Json`")]
pub(super) struct IdNotHex {
    id: String,
    digits: usize,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    spans: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 5")]
    pub(super) value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(message, tag = "5")]
    Array(ArrayValue),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

/// One span.
pub(super) fn span(span: &Span) -> Result<Bytes, IdNotHex> {
    let parent = span.parent_span_id.as_deref().map(|id| id_bytes(id, 16)).transpose()?;
    let span = WireSpan {
        trace_id: id_bytes(&span.trace_id, 32)?,
        span_id: id_bytes(&span.span_id, 16)?,
        parent_span_id: parent.unwrap_or_default(),
        name: span.name.clone(),
        kind: KIND,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: span.attributes.iter().map(key_value).collect(),
        status: Some(Status {}),
        flags: FLAGS,
    };
    Ok(span.encode_to_vec().into())
}

/// A request with spans that are encoded already.
pub(super) fn request(
    resource: &[(String, AttributeValue)],
    scope: (&str, &str, &[(String, AttributeValue)]),
    spans: Vec<Bytes>,
) -> Bytes {
    let (name, version, attributes) = scope;
    let scope = Scope {
        name: name.to_owned(),
        version: version.to_owned(),
        attributes: attributes.iter().map(key_value).collect(),
    };
    let resource = Resource { attributes: resource.iter().map(key_value).collect() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans }];
    Request { resource_spans }.encode_to_vec().into()
}

fn id_bytes(id: &str, digits: usize) -> Result<Vec<u8>, IdNotHex> {
    let wrong = || IdNotHex { id: id.to_owned(), digits };
    if id.len() != digits {
        return Err(wrong());
    }
    hex::decode(id).map_err(|_| wrong())
}

fn key_value((key, value): &(String, AttributeValue)) -> KeyValue {
    KeyValue { key: key.clone(), value: Some(any_value(value)) }
}

pub(super) fn any_value(value: &AttributeValue) -> AnyValue {
    let text = |text: &String| Value::Text(text.clone());
    let value = match value {
        AttributeValue::Text(value) => text(value),
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::Int(value) => Value::Int(*value),
        AttributeValue::Texts(values) => {
            let values = values.iter().map(|value| AnyValue { value: Some(text(value)) });
            Value::Array(ArrayValue { values: values.collect() })
        }
    };
    AnyValue { value: Some(value) }
}

/// A span as a receiver reads it, in the words of OTLP's JSON.
#[cfg(test)]
pub(super) fn decoded(span: &Bytes) -> serde_json::Value {
    use serde_json::json;

    fn value(any: AnyValue) -> serde_json::Value {
        match any.value.unwrap() {
            Value::Text(text) => json!({ "stringValue": text }),
            Value::Bool(value) => json!({ "boolValue": value }),
            Value::Int(value) => json!({ "intValue": value.to_string() }),
            Value::Array(array) => {
                let values: Vec<_> = array.values.into_iter().map(value).collect();
                json!({ "arrayValue": { "values": values } })
            }
        }
    }
    let span = WireSpan::decode(span.clone()).unwrap();
    let attributes = span.attributes.into_iter();
    let attributes: Vec<_> =
        attributes.map(|it| json!({ "key": it.key, "value": value(it.value.unwrap()) })).collect();
    let mut json = json!({
        "traceId": hex::encode(span.trace_id),
        "spanId": hex::encode(span.span_id),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": attributes,
        "status": span.status.map(|_| json!({})),
        "flags": span.flags,
    });
    if !span.parent_span_id.is_empty() {
        json["parentSpanId"] = hex::encode(span.parent_span_id).into();
    }
    json
}
