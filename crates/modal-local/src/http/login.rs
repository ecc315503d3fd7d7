//! The page on which a person confirms that a client may have the server's token.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Form, Router};
use serde::Deserialize;

use crate::ctx::Ctx;
use crate::login::Verdict;
use crate::server::is_own_authority;

/// Pages that need no token.
pub(crate) const LOGIN: &str = "/_login/";

pub(super) fn routes() -> Router<Ctx> {
    Router::new().route("/_login/{flow}", get(ask).post(confirm))
}

async fn ask(State(ctx): State<Ctx>, Path(flow): Path<String>) -> Response {
    match ctx.logins.is_open(&flow) {
        true => page(StatusCode::OK, &form(&ctx, "")),
        false => page(StatusCode::NOT_FOUND, "<p>This log-in is over. Start it anew.</p>"),
    }
}

#[derive(Deserialize)]
struct Answer {
    code: String,
}

async fn confirm(
    State(ctx): State<Ctx>,
    Path(flow): Path<String>,
    headers: HeaderMap,
    Form(answer): Form<Answer>,
) -> Response {
    let origin = headers.get(header::ORIGIN).and_then(|it| it.to_str().ok());
    let authority = origin.and_then(|it| it.strip_prefix("http://"));
    if origin.is_some() && !authority.is_some_and(is_own_authority) {
        return page(StatusCode::FORBIDDEN, "<p>Another site's page cannot log in here.</p>");
    }
    match ctx.logins.confirm(&flow, &answer.code) {
        Verdict::Confirmed => page(StatusCode::OK, "<p>Done. You can close this page.</p>"),
        Verdict::Wrong => page(StatusCode::FORBIDDEN, &form(&ctx, "<p>That is not the code.</p>")),
        Verdict::Over => page(StatusCode::FORBIDDEN, "<p>This log-in is over. Start it anew.</p>"),
    }
}

fn form(ctx: &Ctx, note: &str) -> String {
    let file = escape(&ctx.logins.code_file().display().to_string());
    format!(
        "{note}<p>A program asks for the token of this machine's local server.</p>\
         <p>If that is you, enter the code that lies in <code>{file}</code>:</p>\
         <form method=post><input name=code autofocus autocomplete=off> <button>Confirm</button></form>"
    )
}

/// Not to be shown inside another page, and without anything that runs.
fn page(status: StatusCode, body: &str) -> Response {
    let html = format!(
        "<!doctype html><meta charset=utf-8><title>Log in to the local server</title>\
         <h1>Log in to the local server</h1>{body}"
    );
    let policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'";
    (status, [(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
