//! HTTP with a stream of events: how servers were reached before protocol version 2025-03-26.
//!
//! A GET opens the stream; its first event says where messages are to be posted; answers come as events. The
//! official SDK no longer has a client for it, so this is one, on the SDK's trait for transports.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use reqwest::{
    Url,
    header::{ACCEPT, HeaderMap},
};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use sse_stream::{Sse, SseStream};

use super::{
    server::Fate,
    stdio::{Budget, FLOOD},
};

/// Why a server can't be spoken to this way.
#[derive(Debug, thiserror::Error)]
pub(super) enum SseError {
    #[error("the request failed")]
    Http(#[from] reqwest::Error),
    #[error("the server answers {0} instead of a stream")]
    NoStream(String),
    #[error("the stream's first event does not say where to post")]
    NoEndpoint,
    #[error("the server wants messages posted to another host")]
    ForeignEndpoint,
}

/// An open stream and the address for messages.
pub(super) struct SseTransport {
    http: reqwest::Client,
    endpoint: Arc<Url>,
    headers: HeaderMap,
    events: BoxStream<'static, Result<Sse, sse_stream::Error>>,
}

impl SseTransport {
    /// Opens the stream and waits for its first event.
    pub(super) async fn connect(
        http: reqwest::Client,
        url: Url,
        headers: HeaderMap,
        budget: Budget,
        fate: Fate,
    ) -> Result<Self, SseError> {
        let request = http.get(url.clone()).headers(headers.clone());
        let response = request.header(ACCEPT, "text/event-stream").send().await?;
        let kind = response.headers().get("content-type").and_then(|it| it.to_str().ok());
        if !response.status().is_success()
            || !kind.is_some_and(|it| it.starts_with("text/event-stream"))
        {
            let kind = kind.unwrap_or("nothing");
            return Err(SseError::NoStream(format!("{} with {kind}", response.status())));
        }
        let bytes = response.bytes_stream().take_while(move |bytes| {
            let goes_on = bytes.as_ref().is_ok_and(|bytes| budget.takes(bytes.len()));
            if !goes_on {
                fate.seal(match bytes {
                    Ok(_) => {
                        format!("it sent more than {} MiB unasked and was cut off", FLOOD >> 20)
                    }
                    Err(_) => "its stream broke".to_owned(),
                });
            }
            std::future::ready(goes_on)
        });
        let mut events = SseStream::from_bytes_stream(bytes).boxed();
        let endpoint = loop {
            let event = events.next().await.and_then(Result::ok).ok_or(SseError::NoEndpoint)?;
            if event.event.as_deref() == Some("endpoint") {
                break event.data.ok_or(SseError::NoEndpoint)?;
            }
        };
        let endpoint = url.join(endpoint.trim()).map_err(|_| SseError::NoEndpoint)?;
        if endpoint.origin() != url.origin() {
            return Err(SseError::ForeignEndpoint);
        }
        Ok(SseTransport { http, endpoint: Arc::new(endpoint), headers, events })
    }
}

impl Transport<RoleClient> for SseTransport {
    type Error = SseError;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), SseError>> + Send + 'static {
        let request = self.http.post((*self.endpoint).clone()).headers(self.headers.clone());
        let request = request.json(&message);
        async move {
            request.send().await?.error_for_status().map_err(reqwest::Error::without_url)?;
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let event = self.events.next().await?.ok()?;
            // What is no message of the protocol is a server's own business.
            let Some(data) = event.data else { continue };
            if let Ok(message) = serde_json::from_str(&data) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), SseError> {
        self.events = futures::stream::empty().boxed();
        Ok(())
    }
}
