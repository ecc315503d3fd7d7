//! One request on its way into a container and back.
//!
//! HTTP/1.1, or HTTP/2 without TLS where the server speaks it and the client did. Bodies are streamed
//! both ways, trailers too; an upgraded connection (WebSocket) is carried until one side closes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use container_runtime::Container;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, Version, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::copy_bidirectional;

use super::{AUTHORIZATION, Entry};
use crate::function::pool::InFlight;
use crate::sandbox;
use crate::web::credentials;
use crate::web::front::HOP_BY_HOP;

/// What is held until the last byte of an answer has passed.
struct Visit {
    _in_flight: InFlight,
    _entry: Entry,
}

/// Passes a request on, and its answer back.
pub(super) async fn forward(
    in_flight: InFlight,
    mut request: Request,
    mut entry: Entry,
    h2_enabled: bool,
) -> Response {
    entry.goes_to(&in_flight);
    let place = in_flight.task.place().and_then(|place| {
        let port = u16::try_from(in_flight.task.spec.http().port).unwrap_or_default();
        Ok((place.container()?, port))
    });
    let Ok((container, port)) = place else {
        return entry.refused(StatusCode::SERVICE_UNAVAILABLE, "the container has just ended");
    };
    let h2 = h2_enabled && request.version() == Version::HTTP_2;
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| {
        // Taken out here: it is this side's half.
        hyper::upgrade::on(&mut request)
    });
    readdress(&mut request, h2, upgrade.is_some());
    match send(&container, port, request, h2).await {
        Ok(response) => {
            entry.answered(response.status());
            reply(Visit { _in_flight: in_flight, _entry: entry }, response, upgrade)
        }
        Err(error) => {
            tracing::debug!(%error, task = %in_flight.task.id, "a request did not reach its server");
            entry.refused(StatusCode::BAD_GATEWAY, "the server did not answer")
        }
    }
}

async fn send(
    container: &Container,
    port: u16,
    request: Request,
    h2: bool,
) -> Result<http::Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = sandbox::connect(container, port).await?;
    // Without delay for small writes where the kernel allows it; it works either way.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(stream);
    if h2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        return Ok(sender.send_request(request).await?);
    }
    let (mut sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

/// Makes the request one to the server itself, without what was meant for whoever passes it on.
fn readdress(request: &mut Request, h2: bool, upgrades: bool) {
    credentials::strip(request.headers_mut());
    request.headers_mut().remove(AUTHORIZATION);
    strip_hops(request.headers_mut(), upgrades);
    let host = request.uri().authority().cloned().or_else(|| authority(request.headers()));
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if h2 {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = host.or_else(|| Some(Authority::from_static("localhost")));
        uri.path_and_query = Some(path);
        // All parts are there and were read before.
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        request.headers_mut().remove(header::HOST);
        return;
    }
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        request.headers_mut().entry(header::HOST).or_insert(host);
    }
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
}

fn authority(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

/// Removes headers that are about a connection; those by which it becomes another stay if it does.
/// `TE: trailers` stays too: gRPC's clients send it to the end.
fn strip_hops(headers: &mut HeaderMap, upgrades: bool) {
    for name in HOP_BY_HOP {
        let stays = upgrades && (name == header::CONNECTION || name == header::UPGRADE);
        if !stays && name != header::TE && name != header::TRAILER {
            headers.remove(name);
        }
    }
}

fn reply(
    visit: Visit,
    mut response: http::Response<Incoming>,
    upgrade: Option<OnUpgrade>,
) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(outside) = upgrade
    {
        let inside = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let Err(error) = carry(outside, inside).await {
                tracing::debug!(%error, "an upgraded connection to a server broke off");
            }
            drop(visit);
        });
        return response.map(|_| Body::empty());
    }
    strip_hops(response.headers_mut(), false);
    // The version is this side's own.
    *response.version_mut() = Version::HTTP_11;
    response.map(|body| Body::new(Answer { body, visit: Some(visit) }))
}

async fn carry(outside: OnUpgrade, inside: OnUpgrade) -> io::Result<()> {
    let (outside, inside) = tokio::try_join!(outside, inside).map_err(io::Error::other)?;
    let (mut outside, mut inside) = (TokioIo::new(outside), TokioIo::new(inside));
    copy_bidirectional(&mut outside, &mut inside).await.map(drop)
}

/// The body of an answer; the request ends with it.
struct Answer {
    body: Incoming,
    visit: Option<Visit>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = &polled {
            self.visit = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn request(uri: &str, headers: &[(&'static str, &'static str)]) -> Request {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn credentials_and_what_is_about_the_connection_stay_outside() {
        let mut it = request(
            "/a?b=1",
            &[
                ("host", "127.0.0.1:9"),
                ("modal-key", "k"),
                ("modal-secret", "s"),
                ("modal-authorization", "Bearer t"),
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("authorization", "Bearer own"),
            ],
        );
        readdress(&mut it, false, true);
        let names: BTreeSet<&str> = it.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["host", "connection", "upgrade", "authorization"]));
        readdress(&mut it, false, false);
        let names: BTreeSet<&str> = it.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["host", "authorization"]));
    }

    #[test]
    fn the_address_is_in_the_form_of_the_protocol() {
        let mut one = request("http://127.0.0.1:9/a?b=1", &[]);
        readdress(&mut one, false, false);
        assert_eq!(
            (one.uri().to_string().as_str(), &one.headers()["host"]),
            ("/a?b=1", &HeaderValue::from_static("127.0.0.1:9"))
        );
        let mut two = request("/a?b=1", &[("host", "127.0.0.1:9")]);
        readdress(&mut two, true, false);
        assert_eq!(two.uri().to_string(), "http://127.0.0.1:9/a?b=1");
        assert!(two.headers().is_empty());
    }
}
