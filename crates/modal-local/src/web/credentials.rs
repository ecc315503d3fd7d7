//! Proxy authentication: who may reach a web function or a server that asks for it.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::front::plain;
use crate::ctx::Ctx;
use crate::ids::{AppId, ProxyTokenId};

/// Headers of proxy authentication; the function does not see them.
const KEY: HeaderName = HeaderName::from_static("modal-key");
const SECRET: HeaderName = HeaderName::from_static("modal-secret");
/// What the other way to present a proxy token begins with: `Authorization: Bearer ID.SECRET`.
const BEARER: &[u8] = b"Bearer ";

/// Refuses a request that has neither the server's token nor a proxy token of the app's environment in its headers.
pub(super) async fn check(ctx: &Ctx, app: &AppId, headers: &HeaderMap) -> Option<Response> {
    let Some((id, secret)) = presented(headers) else {
        return Some(refusal("missing"));
    };
    if ctx.auth.is_token(id, secret) {
        return None;
    }
    match opens(ctx, app, id, secret).await {
        Ok(true) => None,
        Ok(false) => Some(refusal("invalid")),
        Err(error) => Some(plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())),
    }
}

/// Whether a header is about proxy authentication, and for nobody behind it.
pub(super) fn is_credential(name: &HeaderName, value: &HeaderValue) -> bool {
    *name == KEY || *name == SECRET || (*name == header::AUTHORIZATION && bearer(value).is_some())
}

/// Takes such headers away.
pub(super) fn strip(headers: &mut HeaderMap) {
    headers.remove(KEY);
    headers.remove(SECRET);
    if headers.get(header::AUTHORIZATION).is_some_and(|value| bearer(value).is_some()) {
        headers.remove(header::AUTHORIZATION);
    }
}

fn refusal(what: &str) -> Response {
    let text = format!("{what} credentials for proxy authorization");
    plain(StatusCode::UNAUTHORIZED, &text)
}

/// Whether a proxy token is good where an app is.
async fn opens(ctx: &Ctx, app: &AppId, id: &[u8], secret: &[u8]) -> crate::Result<bool> {
    let environment = ctx.apps.get(app).await?.environment_id;
    ctx.proxy_tokens.opens(id, secret, &environment).await
}

/// A token's id and secret.
fn presented(headers: &HeaderMap) -> Option<(&[u8], &[u8])> {
    match (headers.get(KEY), headers.get(SECRET)) {
        (Some(id), Some(secret)) => Some((id.as_bytes(), secret.as_bytes())),
        _ => bearer(headers.get(header::AUTHORIZATION)?),
    }
}

/// The proxy token in an `Authorization` header, which may as well be the function's own affair.
fn bearer(value: &HeaderValue) -> Option<(&[u8], &[u8])> {
    let token = value.as_bytes().strip_prefix(BEARER)?;
    let (id, secret) = token.split_at_checked(token.iter().position(|byte| *byte == b'.')?)?;
    id.starts_with(ProxyTokenId::PREFIX.as_bytes()).then_some((id, &secret[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_in_two_ways() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            pairs.iter().map(pair).collect::<HeaderMap>()
        };
        let pair = headers(&[("modal-key", "wk-1"), ("modal-secret", "ws-2")]);
        let bearer = headers(&[("authorization", "Bearer wk-1.ws-2")]);
        for headers in [&pair, &bearer] {
            assert_eq!(presented(headers), Some((&b"wk-1"[..], &b"ws-2"[..])));
            assert!(headers.iter().all(|(name, value)| is_credential(name, value)));
        }
        for own in ["Bearer sk-1.2", "Bearer wk-1", "Basic wk-1.ws-2"] {
            let headers = headers(&[("authorization", own), ("modal-key", "wk-1")]);
            assert_eq!(presented(&headers), None, "{own}");
            assert!(!is_credential(&header::AUTHORIZATION, &HeaderValue::from_static(own)));
        }
    }
}
