//! OTLP as JSON: the same fields in camelCase, 64-bit numbers as text, ids as they are.

use serde_json::{Value, json};

use super::{
    attributes::AttributeValue,
    span::{FLAGS, KIND, Span},
};

/// One span.
pub(super) fn span(span: &Span) -> Value {
    let mut written = json!({
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": KIND,
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes(&span.attributes),
        "status": {},
        "flags": FLAGS,
    });
    if let Some(parent) = &span.parent_span_id {
        written["parentSpanId"] = parent.as_str().into();
    }
    written
}

/// A request around spans that are written already, joined by commas.
pub(super) fn request(
    resource: &[(String, AttributeValue)],
    scope: (&str, &str, &[(String, AttributeValue)]),
    spans: &[u8],
) -> Vec<u8> {
    let (name, version, scope_attributes) = scope;
    let resource = json!({ "attributes": attributes(resource) });
    let scope =
        json!({ "name": name, "version": version, "attributes": attributes(scope_attributes) });
    let head = format!(
        r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"scope":{scope},"spans":["#
    );
    [head.as_bytes(), spans, b"]}]}]}"].concat()
}

fn attributes(list: &[(String, AttributeValue)]) -> Value {
    list.iter().map(|(key, value)| json!({ "key": key, "value": any_value(value) })).collect()
}

fn any_value(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Text(value) => json!({ "stringValue": value }),
        AttributeValue::Bool(value) => json!({ "boolValue": value }),
        AttributeValue::Int(value) => json!({ "intValue": value.to_string() }),
        AttributeValue::Texts(values) => {
            let values: Vec<_> =
                values.iter().map(|value| json!({ "stringValue": value })).collect();
            json!({ "arrayValue": { "values": values } })
        }
    }
}
