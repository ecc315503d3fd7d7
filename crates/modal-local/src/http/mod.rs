//! Plain HTTP: uploads and downloads by signed URLs, and the administration of this server.
//!
//! The [gate](crate::server) has checked each request before it comes here: a signed URL carries
//! its [`Grant`] as an extension, everything else came with the token.

mod admin;
mod blobs;
mod blocks;
mod login;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{Method, StatusCode};
use tonic::Code;

pub(crate) use self::login::LOGIN;
use crate::auth::Grant;
use crate::ctx::Ctx;
use crate::error::Error;

/// Paths whose last segment is a signed grant.
pub(crate) const GRANTED: &str = "/_granted/";

/// All paths that are no RPCs.
pub(crate) fn routes(ctx: Ctx) -> Router {
    Router::new()
        .route("/_granted/{grant}", any(granted))
        .merge(admin::routes())
        .merge(login::routes())
        .with_state(ctx)
}

/// Does the one thing that a signed URL allows.
async fn granted(State(ctx): State<Ctx>, request: Request) -> Response {
    let Some(grant) = request.extensions().get::<Grant>().cloned() else {
        return (StatusCode::FORBIDDEN, "this URL is not valid\n").into_response();
    };
    let (parts, body) = request.into_parts();
    let done = match (parts.method, grant) {
        (Method::PUT, Grant::PutBlob { blob }) => {
            blobs::put(&ctx, &blob, &parts.headers, body).await
        }
        (Method::PUT, Grant::PutPart { blob, part }) => {
            blobs::put_part(&ctx, &blob, part, &parts.headers, body).await
        }
        (Method::POST, Grant::CompleteBlob { blob }) => blobs::complete(&ctx, &blob).await,
        (Method::GET, Grant::GetBlob { blob }) => blobs::get(&ctx, &blob).await,
        (Method::PUT, Grant::PutBlock { sha256 }) => blocks::put(&ctx, &sha256, body).await,
        (Method::GET, Grant::GetBlock { volume, path, start, len, trim }) => {
            blocks::get(&ctx, &volume, &path, (start, len), trim).await
        }
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    done.unwrap_or_else(IntoResponse::into_response)
}

/// A full answer in one piece.
fn text(body: impl Into<Body>) -> Response {
    Response::new(body.into())
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = tonic::Status::from(self);
        let code = match status.code() {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists => StatusCode::CONFLICT,
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
            Code::ResourceExhausted => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (code, format!("{}\n", status.message())).into_response()
    }
}
