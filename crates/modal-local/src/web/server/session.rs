//! Sticky sessions: their beginning and end over HTTP, and the requests that belong to one.
//!
//! A request shows its session's token in `Modal-Authorization`, in the query or in a cookie, looked
//! for in this order; from the query it moves into the cookie. Source: Modal's guide to sticky sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::json;

use super::{Entry, bearer, check_auth, forward};
use crate::ctx::Ctx;
use crate::function::definition::FunctionSpec;
use crate::function::pool::{NoSession, Pool};
use crate::web::endpoint::Target;
use crate::web::front::plain;

/// Paths that are not the server's own.
const CONTROL: &str = "/_modal/sessions/";
const QUERY: &str = "modal_session_token";
const COOKIE: &str = "__Host-modal-session-token";
const IDLE_TIMEOUT: HeaderName = HeaderName::from_static("x-modal-server-session-idle-timeout");
const TOKEN: HeaderName = HeaderName::from_static("x-modal-server-session-token");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");
/// Says to the server whose request it is.
const SESSION_ID: HeaderName = HeaderName::from_static("x-modal-server-session-id");
/// Without a request for this long a session ends, where its beginning did not say.
const DEFAULT_IDLE: Duration = Duration::from_secs(600);
/// No longer key is kept.
const MAX_KEY: usize = 128;

/// Answers a request to a sessioned server.
pub(super) async fn answer(
    target: &Target,
    pool: Arc<Pool>,
    spec: &FunctionSpec,
    request: Request,
) -> Response {
    if let Some(what) = request.uri().path().strip_prefix(CONTROL) {
        let what = what.to_owned();
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "sessions are begun and ended by POST");
        }
        // The body is nobody's, and cannot be waited beside.
        return control(target, &pool, spec, &what, request.headers().clone()).await;
    }
    let entry = Entry::new(target, request.uri().path());
    let Some((token, from)) = token(&request) else {
        return entry.refused(StatusCode::UNAUTHORIZED, "missing session token");
    };
    let Some(session) = target.ctx.auth.verify_session_token(&token) else {
        return entry.refused(StatusCode::UNAUTHORIZED, "invalid session token");
    };
    let Some(in_flight) = pool.enter_session(&session) else {
        return entry.refused(StatusCode::NOT_FOUND, "the session has ended");
    };
    if from == From::Query {
        return to_cookie(request.uri(), &token);
    }
    let mut request = request;
    strip(&mut request);
    if let Ok(id) = HeaderValue::from_str(session.as_str()) {
        request.headers_mut().insert(SESSION_ID, id);
    }
    forward::forward(in_flight, request, entry, spec.http().h2_enabled).await
}

/// The beginning and the end of sessions.
async fn control(
    target: &Target,
    pool: &Pool,
    spec: &FunctionSpec,
    what: &str,
    headers: HeaderMap,
) -> Response {
    if !spec.http().unauthenticated
        && let Some(refused) = check_auth(&target.ctx, spec, &headers).await
    {
        return refused;
    }
    match what {
        "start" => start(&target.ctx, pool, &headers).await,
        "terminate" => terminate(&target.ctx, pool, &headers),
        _ => plain(StatusCode::NOT_FOUND, "of sessions there are start and terminate"),
    }
}

async fn start(ctx: &Ctx, pool: &Pool, headers: &HeaderMap) -> Response {
    let Some(idle) = idle_timeout(headers) else {
        return plain(StatusCode::BAD_REQUEST, "the idle timeout is a whole number of seconds");
    };
    let key = headers.get(&IDEMPOTENCY_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| !key.is_empty() && key.len() <= MAX_KEY);
    match pool.start_session(key, idle).await {
        Ok(session) => {
            let token = ctx.auth.issue_session_token(&session);
            Json(json!({"session_id": session, "token": token})).into_response()
        }
        Err(why) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            match why {
                NoSession::Full => "no container had room for the session in time",
                NoSession::Failing => "the server's containers end before they are ready",
                NoSession::Closed => "the server has been stopped",
            },
        ),
    }
}

fn terminate(ctx: &Ctx, pool: &Pool, headers: &HeaderMap) -> Response {
    let token = headers.get(&TOKEN).and_then(|token| token.to_str().ok());
    let Some(token) = token else {
        return plain(StatusCode::BAD_REQUEST, "which session? its token is missing");
    };
    let session = ctx.auth.verify_session_token(token);
    match session.is_some_and(|session| pool.terminate_session(&session)) {
        true => StatusCode::OK.into_response(),
        false => plain(StatusCode::NOT_FOUND, "there is no such session"),
    }
}

/// `None` for what is no time.
fn idle_timeout(headers: &HeaderMap) -> Option<Duration> {
    let Some(seconds) = headers.get(&IDLE_TIMEOUT) else { return Some(DEFAULT_IDLE) };
    let seconds: u32 = seconds.to_str().ok()?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// Where a token was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Header,
    Query,
    Cookie,
}

fn token(request: &Request) -> Option<(String, From)> {
    let headers = request.headers();
    if let Some(token) = bearer(headers) {
        return Some((token.to_owned(), From::Header));
    }
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let mut pairs = url::form_urlencoded::parse(query);
    if let Some((_, token)) = pairs.find(|(name, _)| name == QUERY) {
        return Some((token.into_owned(), From::Query));
    }
    let token = cookies(headers).find_map(|(name, value)| (name == COOKIE).then_some(value))?;
    Some((token.to_owned(), From::Cookie))
}

/// Names and values.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('='))
}

/// Sends a browser to the same page, with the token in a cookie.
fn to_cookie(uri: &Uri, token: &str) -> Response {
    let cookie = format!("{COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Lax");
    let answer = [
        (header::LOCATION, here(&without_token(uri))),
        (header::SET_COOKIE, cookie),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::TEMPORARY_REDIRECT, answer).into_response()
}

/// A location of this server alone: after two slashes a browser would read the name of another.
fn here(location: &str) -> String {
    format!("/{}", location.trim_start_matches(['/', '\\']))
}

fn without_token(uri: &Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(QUERY))
        .collect();
    match kept.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), kept.join("&")),
    }
}

/// Takes out what was for whoever passes the request on.
fn strip(request: &mut Request) {
    let uri = without_token(request.uri());
    if let Ok(uri) = uri.parse() {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    headers.remove(TOKEN);
    headers.remove(IDLE_TIMEOUT);
    if cookies(headers).any(|(name, _)| name == COOKIE) {
        let kept: Vec<String> = cookies(headers)
            .filter(|(name, _)| *name != COOKIE)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        headers.remove(header::COOKIE);
        if let Some(kept) = HeaderValue::from_str(&kept.join("; ")).ok().filter(|it| !it.is_empty())
        {
            headers.insert(header::COOKIE, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn a_token_is_looked_for_in_header_query_and_cookie_in_this_order() {
        let cookie = ("cookie", "a=b; __Host-modal-session-token=c; d=e");
        let of = |uri: &str, headers: &[(&str, &str)]| token(&request(uri, headers));
        let header = ("modal-authorization", "Bearer h");
        let query = "/x?a=1&modal_session_token=q";
        assert_eq!(of(query, &[header, cookie]), Some(("h".into(), From::Header)));
        assert_eq!(of(query, &[cookie]), Some(("q".into(), From::Query)));
        assert_eq!(of("/x", &[cookie]), Some(("c".into(), From::Cookie)));
        assert_eq!(of("/x", &[("authorization", "Bearer own")]), None);
    }

    #[test]
    fn the_page_with_the_cookie_is_the_same_server_s() {
        let of = |uri: &'static str| {
            to_cookie(&Uri::from_static(uri), "t").headers()[header::LOCATION].clone()
        };
        assert_eq!(of("/x?a=1&modal_session_token=t"), "/x?a=1");
        assert_eq!(of("//elsewhere.example/?modal_session_token=t"), "/elsewhere.example/");
    }

    #[test]
    fn the_server_sees_no_token() {
        let mut it = request(
            "/x?a=%20&modal_session_token=q&b",
            &[
                ("cookie", "a=b; __Host-modal-session-token=c"),
                ("cookie", "d=e"),
                ("x-modal-server-session-token", "t"),
            ],
        );
        strip(&mut it);
        assert_eq!(it.uri(), "/x?a=%20&b");
        assert_eq!(it.headers()["cookie"], "a=b; d=e");
        assert_eq!(it.headers().len(), 1);
        let mut it =
            request("/?modal_session_token=q", &[("cookie", "__Host-modal-session-token=c")]);
        strip(&mut it);
        assert_eq!((it.uri().to_string().as_str(), it.headers().len()), ("/", 0));
    }

    #[test]
    fn an_idle_timeout_is_a_whole_number_of_seconds() {
        let of =
            |value: &str| idle_timeout(request("/", &[(IDLE_TIMEOUT.as_str(), value)]).headers());
        assert_eq!(of("10"), Some(Duration::from_secs(10)));
        assert_eq!(idle_timeout(&HeaderMap::new()), Some(DEFAULT_IDLE));
        assert!(["0", "-1", "1.5", ""].iter().all(|it| of(it).is_none()));
    }
}
