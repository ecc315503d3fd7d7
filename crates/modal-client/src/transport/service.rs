//! What a call goes through: a connection, or a service in this process, with layers around it.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tonic::{Status, body::Body, transport::Channel};
use tower::{Layer, Service, ServiceExt as _, util::BoxCloneSyncService};

use crate::error::BoxError;

/// Something that answers gRPC calls: HTTP requests and answers whose bodies are messages. What a layer wraps.
#[derive(Clone)]
pub struct GrpcService(BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>);

impl GrpcService {
    fn new<S>(service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        let status = |error: S::Error| Status::from_error(error.into());
        Self(BoxCloneSyncService::new(service.map_err(status)))
    }
}

impl fmt::Debug for GrpcService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcService").finish_non_exhaustive()
    }
}

impl Service<http::Request<Body>> for GrpcService {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

type Wrap = dyn Fn(GrpcService) -> GrpcService + Send + Sync;

/// How connections become services: with the layers that a caller put around them, or none at all.
#[derive(Clone, Default)]
pub(crate) struct Stack {
    layers: Vec<Arc<Wrap>>,
    /// Answers every call, instead of any connection.
    in_process: Option<GrpcService>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("layers", &self.layers.len())
            .field("in_process", &self.in_process.is_some())
            .finish()
    }
}

impl Stack {
    pub(crate) fn push<L>(&mut self, layer: L)
    where
        L: Layer<GrpcService> + Send + Sync + 'static,
        L::Service: Service<http::Request<Body>, Response = http::Response<Body>>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as Service<http::Request<Body>>>::Error: Into<BoxError>,
        <L::Service as Service<http::Request<Body>>>::Future: Send + 'static,
    {
        self.layers.push(Arc::new(move |inner| GrpcService::new(layer.layer(inner))));
    }

    pub(crate) fn answer_with<S>(&mut self, service: S)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.in_process = Some(GrpcService::new(service));
    }

    pub(crate) fn in_process(&self) -> Option<GrpcService> {
        self.in_process.clone().map(|service| self.wrap(service))
    }

    /// The service of a connection.
    pub(crate) fn connected(&self, channel: Channel) -> GrpcService {
        self.in_process().unwrap_or_else(|| self.wrap(GrpcService::new(channel)))
    }

    /// The layer that was added last is the outermost.
    fn wrap(&self, service: GrpcService) -> GrpcService {
        self.layers.iter().fold(service, |inner, layer| layer(inner))
    }
}
