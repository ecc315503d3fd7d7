//! Spans that somebody else wrote: taken apart, and handed on as they came.
//!
//! What is not looked at stays bytes, so that nothing of a span is lost that this crate does not know. Two export
//! requests one after the other are one request of both: so protobuf reads repeated fields.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{
    deliver::gzip,
    proto::{KeyValue, Value},
};
use crate::{
    client::Client,
    error::{Error, Result},
    http_call::Call,
};

/// A span of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenSpan {
    /// Its trace, in hexadecimal.
    pub trace_id: String,
    /// Itself, in hexadecimal.
    pub span_id: String,
    /// A request with this span alone.
    pub request: Bytes,
    attributes: Vec<KeyValue>,
}

/// Who wrote spans, in the headers that Langfuse reads: how it decodes them depends on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanWriter {
    /// `x-langfuse-sdk-name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk_name: Option<String>,
    /// `x-langfuse-sdk-version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk_version: Option<String>,
    /// `x-langfuse-ingestion-version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingestion_version: Option<String>,
}

/// What is no export request in protobuf.
#[derive(Debug, thiserror::Error)]
#[error("this is no export request of OTLP in protobuf")]
pub struct NoExportRequest(#[source] prost::DecodeError);

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(bytes = "bytes", optional, tag = "1")]
    resource: Option<Bytes>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(bytes = "bytes", optional, tag = "1")]
    scope: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    spans: Vec<Bytes>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// As much of a span as is looked at.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

/// OTLP's answer to a request, in protobuf: how many of its spans were not taken, and why.
pub fn export_answer(rejected: usize, why: &str) -> Bytes {
    let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
    let partial = Partial { rejected, why: why.to_owned() };
    ExportAnswer { partial: (rejected > 0).then_some(partial) }.encode_to_vec().into()
}

#[derive(Clone, PartialEq, Message)]
struct ExportAnswer {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    why: String,
}

impl WrittenSpan {
    /// The spans of a request, in their order.
    ///
    /// # Errors
    /// [`NoExportRequest`].
    pub fn split(request: Bytes) -> Result<Vec<Self>, NoExportRequest> {
        let request = Request::decode(request).map_err(NoExportRequest)?;
        let mut spans = Vec::new();
        for ResourceSpans { resource, scope_spans, schema_url } in request.resource_spans {
            for mut scope in scope_spans {
                for span in std::mem::take(&mut scope.spans) {
                    let scope_spans =
                        vec![ScopeSpans { spans: vec![span.clone()], ..scope.clone() }];
                    let (resource, schema_url) = (resource.clone(), schema_url.clone());
                    let resource_spans = ResourceSpans { resource, scope_spans, schema_url };
                    spans.push(Self::read(span, resource_spans)?);
                }
            }
        }
        Ok(spans)
    }

    fn read(span: Bytes, resource_spans: ResourceSpans) -> Result<Self, NoExportRequest> {
        let head = Head::decode(span).map_err(NoExportRequest)?;
        let request = Request { resource_spans: vec![resource_spans] };
        Ok(Self {
            trace_id: hex::encode(head.trace_id),
            span_id: hex::encode(head.span_id),
            request: request.encode_to_vec().into(),
            attributes: head.attributes,
        })
    }

    /// The value of an attribute that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl SpanWriter {
    /// As a request's headers have it.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
        let [sdk_name, sdk_version, ingestion_version] = NAMES.each_ref().map(text);
        Self { sdk_name, sdk_version, ingestion_version }
    }

    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let values = [&self.sdk_name, &self.sdk_version, &self.ingestion_version];
        let header = |(name, value): (HeaderName, &Option<String>)| {
            Some((name, HeaderValue::from_str(value.as_deref()?).ok()?))
        };
        NAMES.into_iter().zip(values).filter_map(header)
    }
}

const NAMES: [HeaderName; 3] = [
    HeaderName::from_static("x-langfuse-sdk-name"),
    HeaderName::from_static("x-langfuse-sdk-version"),
    HeaderName::from_static("x-langfuse-ingestion-version"),
];

impl Client {
    /// Sends spans that somebody else wrote, each as [`WrittenSpan::request`], all in one request. Sending them twice
    /// does no harm.
    ///
    /// # Errors
    /// Where the request failed: the server took none of them. It takes no view of single spans.
    pub async fn export_written(&self, requests: &[Bytes], writer: &SpanWriter) -> Result<()> {
        let operation = "send spans";
        let mut body = BytesMut::with_capacity(requests.iter().map(Bytes::len).sum());
        requests.iter().for_each(|request| body.put_slice(request));
        let body =
            gzip(&body).map_err(|error| Error::Unreadable { operation, source: error.into() })?;
        let segments = ["otel", "v1", "traces"];
        let mut call = Call::new(self, operation, Method::POST, &segments)
            .bytes("application/x-protobuf", body)
            .header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        for (name, value) in writer.headers() {
            call = call.header(name, value);
        }
        call.resend_is_safe().succeed(self).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::attributes::AttributeValue, *};

    fn span(id: u8) -> Bytes {
        let value = super::super::proto::any_value(&AttributeValue::Text(format!("text {id}")));
        let attributes = vec![KeyValue { key: "name".to_owned(), value: Some(value) }];
        let mut span =
            Head { trace_id: vec![1; 16], span_id: vec![id; 8], attributes }.encode_to_vec();
        // A field that nobody here knows: number 100, two bytes.
        span.extend([0xa2, 0x06, 2, 7, 7]);
        span.into()
    }

    #[test]
    fn spans_come_apart_and_together_without_loss() {
        let scope = |spans| ScopeSpans { scope: Some("a".into()), spans, schema_url: "s".into() };
        let resource = |name: &'static str, scope_spans| ResourceSpans {
            resource: Some(name.into()),
            scope_spans,
            schema_url: String::new(),
        };
        let request = Request {
            resource_spans: vec![
                resource("one", vec![scope(vec![span(1), span(2)])]),
                resource("two", vec![scope(vec![span(3)])]),
            ],
        };
        let spans = WrittenSpan::split(request.encode_to_vec().into()).unwrap();
        let ids: Vec<_> = spans.iter().map(|it| it.span_id[..2].to_owned()).collect();
        assert_eq!(ids, ["01", "02", "03"]);
        assert_eq!(spans[1].text("name"), Some("text 2"));
        assert_eq!((spans[1].text("other"), spans[1].trace_id.len()), (None, 32));

        let together: Vec<u8> = spans.iter().flat_map(|it| it.request.to_vec()).collect();
        let together = Request::decode(&*together).unwrap();
        let all = together.resource_spans.iter().map(|it| &it.scope_spans[0].spans[0]);
        assert_eq!(all.cloned().collect::<Vec<_>>(), [span(1), span(2), span(3)]);
        assert_eq!(together.resource_spans[2].resource, Some("two".into()));
        assert_eq!(together.resource_spans[0].scope_spans[0].schema_url, "s");
    }

    #[test]
    fn an_answer_is_empty_where_all_were_taken() {
        assert!(export_answer(0, "").is_empty());
        assert_eq!(export_answer(2, "no")[..], [10, 6, 8, 2, 18, 2, b'n', b'o']);
    }

    #[test]
    fn what_is_no_request_is_said() {
        assert!(WrittenSpan::split("{\"resourceSpans\":[]}".into()).is_err());
        assert!(WrittenSpan::split(Bytes::new()).unwrap().is_empty());
    }
}
