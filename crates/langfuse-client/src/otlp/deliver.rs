//! Sends spans: gzip, protobuf or JSON, with the headers that the SDKs send.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderName, HeaderValue, Method, header};

use super::{Encoding, attributes::AttributeValue, json, proto};
use crate::{
    client::{Client, SDK_NAME, SDK_VERSION},
    error::{Error, Result},
    http_call::Call,
    ingestion::chain,
    probe::ApiVersion,
    queue::{Deliver, Entry, Failure, Tally},
};

/// The scope that Langfuse's own SDKs name; the server treats its spans as Langfuse's.
const SCOPE: &str = "langfuse-sdk";

/// How spans reach the server.
#[derive(Debug)]
pub(super) struct Delivery {
    client: Client,
    encoding: Encoding,
    version: ApiVersion,
}

impl Delivery {
    pub(super) fn new(client: Client, encoding: Encoding, version: ApiVersion) -> Self {
        Self { client, encoding, version }
    }

    async fn post(&self, batch: &[Entry]) -> Result<()> {
        let operation = "send spans";
        let segments = ["otel", "v1", "traces"];
        let (content_type, body) = self.request(batch);
        let body =
            gzip(&body).map_err(|error| Error::Unreadable { operation, source: error.into() })?;
        let mut call = Call::new(&self.client, operation, Method::POST, &segments)
            .bytes(content_type, body)
            .header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        if self.version == ApiVersion::V4 {
            let name = HeaderName::from_static("x-langfuse-ingestion-version");
            call = call.header(name, HeaderValue::from_static("4"));
        }
        // The same bytes again: the server merges rows of the same id and start time.
        call.resend_is_safe().succeed(&self.client).await.map(drop)
    }

    fn request(&self, batch: &[Entry]) -> (&'static str, Bytes) {
        let resource = resource();
        let public_key = AttributeValue::Text(self.client.config().public_key.clone());
        let attributes = [("public_key".to_owned(), public_key)];
        let scope = (SCOPE, SDK_VERSION, &attributes[..]);
        match self.encoding {
            Encoding::Protobuf => {
                let spans = batch.iter().map(|entry| entry.payload.clone()).collect();
                ("application/x-protobuf", proto::request(&resource, scope, spans))
            }
            Encoding::Json => {
                let spans: Vec<&[u8]> = batch.iter().map(|entry| &entry.payload[..]).collect();
                let spans = spans.join(&b","[..]);
                ("application/json", json::request(&resource, scope, &spans).into())
            }
        }
    }
}

impl Deliver for Delivery {
    async fn deliver(&self, batch: Vec<Entry>, tally: &Tally) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.post(&part).await {
                Ok(()) => tally.delivered(part.len()),
                // One span without ids, or one that is too large, makes the server refuse all: find it.
                Err(Error::TooLarge { .. } | Error::Refused { .. }) if part.len() > 1 => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Err(error) => {
                    let words = chain(&error);
                    for entry in part {
                        let (status, message) = (error.status(), words.clone());
                        tally.failed(Failure { event: entry.id, status, message });
                    }
                }
            }
        }
    }
}

fn resource() -> Vec<(String, AttributeValue)> {
    let text = |key: &str, value: &str| (key.to_owned(), AttributeValue::Text(value.to_owned()));
    vec![
        text("telemetry.sdk.language", "rust"),
        text("telemetry.sdk.name", SDK_NAME),
        text("telemetry.sdk.version", SDK_VERSION),
        text("service.name", "langfuse-client"),
    ]
}

pub(super) fn gzip(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}
