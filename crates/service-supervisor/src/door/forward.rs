//! Hands a request to the service behind the door, and its answer back.

use std::error::Error as StdError;
use std::time::Duration;

use http::header::{
    CONNECTION, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::answer::{Answer, refuse};
use super::body::{Body, BodyError, Watched};
use crate::plan::Limits;

/// Connections that rested longer are not used again: uvicorn closes its own after five seconds.
const REST: Duration = Duration::from_secs(3);
/// Headers of one connection (RFC 9110, section 7.6.1).
const OF_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// The way to a service on loopback.
pub(crate) struct Forward {
    port: u16,
    limits: Limits,
    client: Client<HttpConnector, Body>,
}

/// Why a service did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("the address can't be passed on")]
    Address(#[from] http::Error),
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the body did not come: {0}")]
    Body(String),
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("the service can't be reached: {0}")]
    Service(String),
}

impl ForwardError {
    pub(crate) fn answer(&self) -> Answer {
        let status = match self {
            Self::Address(_) | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Service(_) => StatusCode::BAD_GATEWAY,
        };
        refuse(status, &self.to_string())
    }
}

impl Forward {
    pub(crate) fn new(port: u16, limits: &Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(REST);
        let client = builder.build(connector);
        Self { port, limits: limits.clone(), client }
    }

    /// The answer as soon as its head is here; its body follows as it comes. `port` is another service's.
    pub(crate) async fn pass(
        &self,
        request: Request<Incoming>,
        port: Option<u16>,
    ) -> Result<Answer, ForwardError> {
        let request = self.rewrite(request, port.unwrap_or(self.port))?;
        let within = self.limits.answer_within;
        let answered = tokio::time::timeout(within, self.client.request(request)).await;
        let answer = answered.map_err(|_| ForwardError::TimedOut(within))?.map_err(explain)?;
        let (mut head, body) = answer.into_parts();
        remove_connection_headers(&mut head.headers);
        let body = Watched::new(body, self.limits.idle, u64::MAX);
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }

    fn rewrite(
        &self,
        request: Request<Incoming>,
        port: u16,
    ) -> Result<Request<Body>, ForwardError> {
        let (mut head, body) = request.into_parts();
        let limit = self.limits.body_bytes;
        if body.size_hint().exact().is_some_and(|length| length > limit) {
            return Err(ForwardError::TooLarge(limit));
        }
        let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        head.uri = Uri::builder()
            .scheme("http")
            .authority(format!("127.0.0.1:{port}"))
            .path_and_query(path)
            .build()?;
        head.version = Version::HTTP_11;
        remove_connection_headers(&mut head.headers);
        head.headers.remove(EXPECT);
        let body = Watched::new(body, self.limits.idle, limit);
        Ok(Request::from_parts(head, body.boxed_unsync()))
    }
}

/// Removes what belongs to one connection, also what `Connection` itself names.
fn remove_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        headers.remove(name);
    }
}

/// Tells a fault of the sender from one of the service.
fn explain(error: hyper_util::client::legacy::Error) -> ForwardError {
    let mut cause: &(dyn StdError + 'static) = &error;
    let mut words = cause.to_string();
    while let Some(source) = cause.source() {
        match source.downcast_ref::<BodyError>() {
            Some(BodyError::TooLarge(limit)) => return ForwardError::TooLarge(*limit),
            Some(error) => return ForwardError::Body(error.to_string()),
            None => {}
        }
        words = source.to_string();
        cause = source;
    }
    ForwardError::Service(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_stay_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer sk-1"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        remove_connection_headers(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["authorization"]);
    }
}
