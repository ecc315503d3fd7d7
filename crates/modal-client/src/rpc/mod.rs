//! The one path that every call takes: headers, attempts, waits, deadline, span, error.
//!
//! What each call says about its attempts is what Modal's Python client 1.6.4 says (`_utils/grpc_utils.py`): unary calls
//! of the control plane carry one idempotency key and one time stamp for all attempts, the number of each, and from the
//! second on the seconds since the start; those of a router only how often they were throttled; streams nothing.
//! Warnings in `x-modal-warning` are noted wherever they come: with an answer, a failure, or the end of a stream.

mod answers;
mod assertion;
pub(crate) mod metadata;
pub(crate) mod methods;
pub(crate) mod status;
pub(crate) mod warning;

use std::{sync::Arc, time::Duration};

use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status, client::Grpc, metadata::MetadataMap};
use tonic_prost::ProstCodec;
use tracing::Instrument as _;

pub(crate) use answers::Answers;
pub(crate) use methods::Method;

use crate::{
    error::{Error, Operation, Result},
    retry::{Budget, RetryPolicy, Verdict},
    transport::GrpcService,
};
use warning::Warnings;

/// An attempt without an answer is given up after this long, where the caller sets no deadline.
/// No header tells the server, as Modal's clients send none.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(300);

/// Message limits: one answer may hold the output of a long step, one request a batch of files.
pub(crate) const MESSAGE_LIMIT: usize = 256 * 1024 * 1024;

/// A connection and what all calls over it share.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) service: GrpcService,
    pub(crate) warnings: Arc<Warnings>,
    pub(crate) max_throttle_wait: Option<Duration>,
}

/// Which headers tell a server about attempts: the two services differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Headers {
    /// The control plane: idempotency key, attempts and delays.
    Control,
    /// The command router: the throttled attempts alone.
    Router,
}

/// How one call is made.
#[derive(Clone)]
pub(crate) struct CallOptions {
    pub(crate) operation: Operation,
    pub(crate) policy: RetryPolicy,
    pub(crate) headers: Headers,
    /// Told to the server and enforced here, for each attempt.
    pub(crate) deadline: Option<Duration>,
    pub(crate) metadata: MetadataMap,
    /// Whether an attempt that took too long is repeated. A caller that polls asks again by itself.
    pub(crate) retries_deadline: bool,
}

/// Why a call failed, still with the server's own status, for callers that look at it.
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) attempts: u32,
}

impl Failure {
    pub(crate) fn into_error(self, rpc: &'static str, operation: Operation) -> Error {
        let wait = crate::retry::retry_after(&self.status);
        status::into_error(operation, rpc, &self.status, self.attempts, wait)
    }
}

impl Wire {
    /// Sends a unary call until it succeeds, fails for good, or its retries are used up.
    pub(crate) async fn unary<Q, A>(
        &self,
        method: &Method<Q, A>,
        query: &Q,
        options: &CallOptions,
    ) -> Result<A, Failure>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut attempts = Attempts::new(options, self.max_throttle_wait);
        loop {
            let span = tracing::debug_span!(
                "rpc",
                method = method.name,
                attempt = attempts.budget.attempts()
            );
            let request = attempts.request(query.clone(), options);
            let sent = self.send(method, request, options.deadline).instrument(span).await;
            match sent {
                Ok(answer) => {
                    self.warnings.note(method.name, answer.metadata());
                    return Ok(answer.into_inner());
                }
                Err(status) => {
                    self.warnings.note(method.name, status.metadata());
                    attempts.settle(method.name, status).await?;
                }
            }
        }
    }

    async fn send<Q, A>(
        &self,
        method: &Method<Q, A>,
        request: Request<Q>,
        deadline: Option<Duration>,
    ) -> Result<Response<A>, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        let call = async {
            grpc.ready().await?;
            grpc.unary(request, PathAndQuery::from_static(method.path), ProstCodec::default()).await
        };
        // A little longer than the deadline, so that the server's own answer to it comes through.
        let limit = deadline.map_or(ATTEMPT_LIMIT, |deadline| deadline + Duration::from_secs(5));
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
        }
    }

    /// Opens a stream of answers. Streams are not retried here: their callers know how to resume.
    pub(crate) async fn stream<Q, A>(
        &self,
        method: &Method<Q, A>,
        query: Q,
        metadata: MetadataMap,
        deadline: Option<Duration>,
    ) -> Result<Answers<A>, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut request = Request::new(query);
        *request.metadata_mut() = metadata;
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        let mut grpc = self.grpc();
        let span = tracing::debug_span!("rpc", method = method.name, stream = true);
        let opened = async {
            grpc.ready().await?;
            grpc.server_streaming(
                request,
                PathAndQuery::from_static(method.path),
                ProstCodec::default(),
            )
            .await
        }
        .instrument(span.clone())
        .await;
        match opened {
            Ok(answer) => {
                self.warnings.note(method.name, answer.metadata());
                let warnings = Arc::clone(&self.warnings);
                Ok(Answers::new(answer.into_inner(), method.name, warnings, span))
            }
            Err(status) => {
                self.warnings.note(method.name, status.metadata());
                Err(status)
            }
        }
    }

    /// Sends a stream of requests and waits for the one answer.
    pub(crate) async fn upload<Q, A>(
        &self,
        method: &Method<Q, A>,
        queries: impl futures::Stream<Item = Q> + Send + 'static,
        metadata: MetadataMap,
    ) -> Result<A, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut request = Request::new(queries);
        *request.metadata_mut() = metadata;
        let mut grpc = self.grpc();
        let span = tracing::debug_span!("rpc", method = method.name, upload = true);
        let sent = async {
            grpc.ready().await?;
            grpc.client_streaming(
                request,
                PathAndQuery::from_static(method.path),
                ProstCodec::default(),
            )
            .await
        };
        match sent.instrument(span).await {
            Ok(answer) => {
                self.warnings.note(method.name, answer.metadata());
                Ok(answer.into_inner())
            }
            Err(status) => {
                self.warnings.note(method.name, status.metadata());
                Err(status)
            }
        }
    }

    fn grpc(&self) -> Grpc<GrpcService> {
        Grpc::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }
}

/// The attempts of one call: what they share, and what each says about itself.
pub(crate) struct Attempts {
    budget: Budget,
    started: Instant,
    key: String,
    timestamp: String,
}

impl Attempts {
    pub(crate) fn new(options: &CallOptions, max_throttle_wait: Option<Duration>) -> Self {
        Self {
            budget: Budget::new(options, max_throttle_wait),
            started: Instant::now(),
            key: uuid::Uuid::new_v4().to_string(),
            timestamp: crate::clock::unix_seconds().to_string(),
        }
    }

    /// Has all attempts carry this key.
    pub(crate) fn set_key(&mut self, key: String) {
        self.key = key;
    }

    fn request<Q>(&self, query: Q, options: &CallOptions) -> Request<Q> {
        let mut request = Request::new(query);
        let mut metadata = options.metadata.clone();
        self.describe(&mut metadata, options.headers);
        *request.metadata_mut() = metadata;
        if let Some(deadline) = options.deadline {
            request.set_timeout(deadline);
        }
        request
    }

    pub(crate) fn describe(&self, metadata: &mut MetadataMap, headers: Headers) {
        let mut set = |name: &'static str, value: String| {
            if let Ok(value) = value.parse() {
                metadata.insert(name, value);
            }
        };
        set("x-throttle-retry-attempt", self.budget.throttles.to_string());
        if headers == Headers::Router {
            return;
        }
        set("x-idempotency-key", self.key.clone());
        set("x-retry-attempt", self.budget.retries.to_string());
        set("x-modal-timestamp", self.timestamp.clone());
        let waited = format!("{:.3}", self.started.elapsed().as_secs_f64());
        if self.budget.retries > 0 {
            set("x-retry-delay", waited.clone());
        }
        if self.budget.throttles > 0 {
            set("x-throttle-retry-delay", waited);
        }
    }

    /// Waits before the next attempt, or returns the failure that is final.
    pub(crate) async fn settle(
        &mut self,
        rpc: &'static str,
        status: Status,
    ) -> Result<(), Failure> {
        let attempts = self.budget.attempts();
        match self.budget.judge(&status, self.started.elapsed()) {
            Verdict::Retry(delay) => {
                tracing::debug!(rpc, code = ?status.code(), ?delay, "a call failed and is repeated");
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Verdict::Throttled(delay) => {
                tracing::debug!(rpc, ?delay, "the server asks to wait");
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Verdict::GiveUp => Err(Failure { status, attempts }),
        }
    }
}
