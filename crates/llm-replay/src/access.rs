//! Who may ask: a bearer token, compared in constant time.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::openai;

/// Lets requests pass that carry the token, where one is asked for.
pub(crate) async fn check(
    State(token): State<Option<Zeroizing<String>>>,
    request: Request,
    next: Next,
) -> Response {
    match &token {
        Some(token) if !carries(request.headers(), token) => refusal(),
        _ => next.run(request).await,
    }
}

fn carries(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    sent.as_bytes().ct_eq(token.as_bytes()).into()
}

fn refusal() -> Response {
    let body = openai::error_body("invalid API key", "invalid_api_key");
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}
