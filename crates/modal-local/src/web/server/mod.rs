//! Requests to servers (`@app.server`): passed on to a container as they are.
//!
//! As on Modal they do not wait: 503 while there is no container (the request has one made), 429
//! where each has as many as it may. Source: modal-examples, 07_web/server.py, and the SDK's docs of
//! `max_concurrency`.

mod forward;
mod session;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, StatusCode};

use super::credentials;
use super::endpoint::Target;
use super::front::plain;
use super::requests::RequestRecord;
use crate::clock;
use crate::ctx::Ctx;
use crate::function::definition::FunctionSpec;
use crate::function::pool::{InFlight, Pool, Route};
use crate::ids::FunctionId;

/// Carries the token of `Function._get_flash_auth_token`.
const AUTHORIZATION: HeaderName = HeaderName::from_static("modal-authorization");
/// Requests with the same value go to the same container, if it can be.
const AFFINITY: [HeaderName; 2] = [
    HeaderName::from_static("modal-routing-affinity-key"),
    HeaderName::from_static("modal-session-id"),
];

/// Answers one request.
pub(super) async fn answer(
    target: &Target,
    pool: Arc<Pool>,
    spec: &FunctionSpec,
    request: Request,
) -> Response {
    if spec.is_sessioned() {
        return session::answer(target, pool, spec, request).await;
    }
    let http = spec.http();
    if !http.unauthenticated
        && let Some(refused) = check_auth(&target.ctx, spec, request.headers()).await
    {
        return refused;
    }
    let entry = Entry::new(target, request.uri().path());
    let affinity = AFFINITY.iter().find_map(|name| request.headers().get(name));
    let affinity = affinity.map(|value| value.as_bytes().to_vec());
    match pool.route(affinity.as_deref()) {
        Route::To(in_flight) => forward::forward(in_flight, request, entry, http.h2_enabled).await,
        Route::Waking => entry
            .refused(StatusCode::SERVICE_UNAVAILABLE, "no container is ready; one is on its way"),
        Route::Full => entry.refused(
            StatusCode::TOO_MANY_REQUESTS,
            "every container has as many requests as it takes at once",
        ),
    }
}

/// A token for this server, a proxy token, or the one of this machine's clients.
async fn check_auth(ctx: &Ctx, spec: &FunctionSpec, headers: &HeaderMap) -> Option<Response> {
    match bearer(headers) {
        Some(token) if ctx.auth.is_server_token(&spec.base, token) => None,
        Some(_) => {
            Some(plain(StatusCode::UNAUTHORIZED, "invalid credentials for proxy authorization"))
        }
        None => credentials::check(ctx, &spec.app, headers).await,
    }
}

/// The token that a request shows.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(&AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// A line of the log of requests, written when the request has ended.
struct Entry {
    ctx: Ctx,
    server: FunctionId,
    began: Instant,
    record: RequestRecord,
}

impl Entry {
    fn new(target: &Target, path: &str) -> Self {
        let record = RequestRecord {
            route: path.to_owned(),
            at: clock::now(),
            task: String::new(),
            duration: 0.0,
            status: StatusCode::BAD_GATEWAY.as_u16(),
        };
        let server = target.function.clone();
        Self { ctx: target.ctx.clone(), server, began: Instant::now(), record }
    }

    /// Which container it goes to.
    fn goes_to(&mut self, in_flight: &InFlight) {
        self.record.task = in_flight.task.id.to_string();
    }

    fn answered(&mut self, status: StatusCode) {
        self.record.status = status.as_u16();
    }

    /// The answer of this server's own.
    fn refused(mut self, status: StatusCode, text: &str) -> Response {
        self.answered(status);
        plain(status, text)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.record.duration = self.began.elapsed().as_secs_f64();
        self.ctx.web.requests.add(&self.server, self.record.clone());
    }
}
