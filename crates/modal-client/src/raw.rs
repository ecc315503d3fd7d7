//! The generated stubs behind this client's authentication and retries: for calls that it has no method for.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use modal_proto::client::modal_client_client::ModalClientClient;
use tonic::{Status, body::Body, metadata::MetadataMap};
use tower::{Service, ServiceExt as _};

use crate::{
    client::Client,
    error::Operation,
    retry::RetryPolicy,
    rpc::{Attempts, CallOptions, Headers, MESSAGE_LIMIT},
};

/// The calls whose answer is a stream: they are sent once, as they are.
const STREAMS: [&str; 11] = [
    "AppGetLogs",
    "ContainerExecGetOutput",
    "DictContents",
    "FunctionCallGetDataIn",
    "FunctionCallGetDataOut",
    "ImageJoinStreaming",
    "SandboxGetLogs",
    "SharedVolumeListFilesStream",
    "VolumeListFiles",
    "VolumeListFiles2",
    "WorkspaceBillingReport",
];

/// A gRPC transport that adds who is asking, and repeats what fails as the client's own calls are repeated.
#[derive(Debug, Clone)]
pub struct AuthenticatedService {
    client: Client,
    /// Instead of one of its own for each call.
    key: Option<String>,
}

impl Client {
    /// Every RPC of Modal's control plane, as generated from its description, behind this client's authentication and
    /// retries. Its messages are in [`proto`](crate::proto).
    ///
    /// ```no_run
    /// # async fn example(client: modal_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let answer = client.raw().workspace_name_lookup(()).await?.into_inner();
    /// println!("{}", answer.username);
    /// # Ok(())
    /// # }
    /// ```
    pub fn raw(&self) -> ModalClientClient<AuthenticatedService> {
        self.raw_as(None)
    }

    /// As [`raw`](Self::raw), for one call under an idempotency key that the caller has chosen and written down: whoever
    /// sends the same RPC again under the same key within minutes, another process too, gets the answer of the first,
    /// and nothing is done twice. Two different calls of one RPC must not share a key.
    pub fn raw_with_key(&self, key: &str) -> ModalClientClient<AuthenticatedService> {
        self.raw_as(Some(key.to_owned()))
    }

    fn raw_as(&self, key: Option<String>) -> ModalClientClient<AuthenticatedService> {
        ModalClientClient::new(AuthenticatedService { client: self.clone(), key })
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }
}

impl Service<http::Request<Body>> for AuthenticatedService {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { client, key } = self.clone();
        Box::pin(async move { send(client, key, request).await })
    }
}

async fn send(
    client: Client,
    key: Option<String>,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Status> {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let mut metadata = client.metadata();
    // As Modal's own client does: only the calls of sandboxes carry it.
    if name.starts_with("Sandbox") {
        let added = client.add_auth_token(&mut metadata).await;
        added.map_err(|error| Status::from_error(error.into()))?;
    }
    let (parts, body) = request.into_parts();
    if STREAMS.contains(&name.as_str()) {
        let service = client.shared.wire.service.clone();
        return service.oneshot(with(parts, Body::new(body), metadata)).await;
    }
    let message = body.collect().await?.to_bytes();
    let options = CallOptions {
        operation: Operation::new("call", name.clone()),
        policy: RetryPolicy::CONTROL,
        headers: Headers::Control,
        deadline: None,
        metadata,
        retries_deadline: true,
    };
    let mut attempts = Attempts::new(&options, client.shared.wire.max_throttle_wait);
    if let Some(key) = key {
        attempts.set_key(key);
    }
    loop {
        let mut metadata = options.metadata.clone();
        attempts.describe(&mut metadata, Headers::Control);
        let body = Body::new(Full::new(message.clone()));
        let service = client.shared.wire.service.clone();
        let answer = service.oneshot(with(parts.clone(), body, metadata)).await;
        let (answer, status) = match answer {
            Ok(answer) => whole(answer).await,
            Err(status) => (None, Some(status)),
        };
        match (answer, status) {
            (Some(answer), None) => return Ok(answer),
            (answer, Some(status)) => {
                if let Err(failure) = attempts.settle("raw", status).await {
                    return answer.ok_or(failure.status);
                }
            }
            (None, None) => return Err(Status::internal("there was no answer")),
        }
    }
}

/// A request with the headers of a call added to its own.
fn with(parts: http::request::Parts, body: Body, metadata: MetadataMap) -> http::Request<Body> {
    let mut request = http::Request::from_parts(parts, body);
    for (name, value) in metadata.into_headers() {
        if let Some(name) = name {
            request.headers_mut().insert(name, value);
        }
    }
    request
}

/// An answer whose body has arrived, and its status if that is not OK.
async fn whole(answer: http::Response<Body>) -> (Option<http::Response<Body>>, Option<Status>) {
    let (parts, body) = answer.into_parts();
    let collected = match body.collect().await {
        Ok(collected) => collected,
        Err(status) => return (None, Some(status)),
    };
    let trailers = collected.trailers().cloned();
    let status = Status::from_header_map(&parts.headers)
        .or_else(|| trailers.as_ref().and_then(Status::from_header_map))
        .filter(|status| status.code() != tonic::Code::Ok);
    let bytes: Bytes = collected.to_bytes();
    let body = Full::new(bytes).with_trailers(std::future::ready(trailers.map(Ok)));
    (Some(http::Response::from_parts(parts, Body::new(body))), status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_are_those_of_the_description() {
        let pool = prost_reflect::DescriptorPool::decode(modal_proto::DESCRIPTORS).unwrap();
        let service = pool.get_service_by_name("modal.client.ModalClient").unwrap();
        let mut streams: Vec<String> = service
            .methods()
            .filter(|method| method.is_server_streaming() || method.is_client_streaming())
            .map(|method| method.name().to_owned())
            .collect();
        streams.sort();
        assert_eq!(streams, STREAMS);
    }
}
