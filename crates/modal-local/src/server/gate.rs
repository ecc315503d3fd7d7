//! The door: nothing is answered to a stranger, and unknown calls are told their name.

use std::collections::HashSet;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use tonic::Status;

use crate::auth;
use crate::coverage;
use crate::ctx::Ctx;
use crate::http::{GRANTED, LOGIN};
use crate::service::not_served;
use crate::service::router::old_files;

/// Paths of RPCs of Modal's control plane.
const CONTROL_PLANE: &str = "/modal.client.ModalClient/";
/// Paths of RPCs of the command router.
const ROUTER: &str = "/modal.task_command_router.TaskCommandRouter/";
/// Names of this machine that a client may call it by. A web page that points its own name here
/// (DNS rebinding) is turned away.
pub(crate) const OWN_NAMES: [&str; 4] = ["127.0.0.1", "localhost", "[::1]", "::1"];

/// The RPCs that are served, as paths.
static SERVED: LazyLock<HashSet<String>> =
    LazyLock::new(|| coverage::served().into_iter().map(|rpc| format!("/{rpc}")).collect());

/// Checks each request before any handler sees it.
pub(super) async fn gate(State(ctx): State<Ctx>, mut request: Request, next: Next) -> Response {
    let _call = ctx.activity.begin();
    if !names_this_machine(&request) {
        return (StatusCode::MISDIRECTED_REQUEST, "unknown host name\n").into_response();
    }
    if is_of_a_foreign_page(request.headers()) {
        return (StatusCode::FORBIDDEN, "requests of web pages are not answered\n").into_response();
    }
    let refused = if is_grpc(request.headers()) {
        check_grpc(&ctx, &request).map(grpc_refusal)
    } else {
        check_http(&ctx, &mut request).map(|(code, text)| (code, text).into_response())
    };
    match refused {
        Some(response) => response,
        None => next.run(request).await,
    }
}

/// What is no path of ours.
pub(super) async fn unknown_path(request: Request) -> Response {
    (StatusCode::NOT_FOUND, format!("nothing at `{}`\n", request.uri().path())).into_response()
}

/// Why a gRPC call is refused, if it is.
fn check_grpc(ctx: &Ctx, request: &Request) -> Option<Status> {
    let path = request.uri().path();
    if path.starts_with(ROUTER) {
        if let Err(status) = ctx.auth.verify_router_token(request.headers()) {
            return Some(status);
        }
    } else if !(has_token(ctx, request.headers()) || needs_no_token(path)) {
        return Some(Status::unauthenticated(
            "token id or token secret is not that of this local server",
        ));
    }
    if SERVED.contains(path) || old_files::PATHS.contains(&path) {
        return needs_room(path).then(|| ctx.room.check().err().map(Status::from)).flatten();
    }
    let name = path.strip_prefix(CONTROL_PLANE).or_else(|| path.strip_prefix(ROUTER));
    Some(not_served(name.unwrap_or(path)))
}

/// Why an HTTP request is refused, if it is.
fn check_http(ctx: &Ctx, request: &mut Request) -> Option<(StatusCode, &'static str)> {
    match request.uri().path().strip_prefix(GRANTED) {
        Some(segment) => match ctx.auth.verify_grant(segment) {
            Some(grant) => {
                request.extensions_mut().insert(grant);
                None
            }
            None => Some((StatusCode::FORBIDDEN, "this URL is not valid, or no longer\n")),
        },
        // The page asks for a code that only the owner of the state directory can read.
        None if request.uri().path().starts_with(LOGIN) => None,
        None if has_token(ctx, request.headers()) => None,
        None => Some((StatusCode::UNAUTHORIZED, "token id and token secret are needed\n")),
    }
}

/// Whether the RPC puts much on the disk. Those that name, end or delete something go on when it is
/// full; a build is refused where it begins, for an image that is there needs no room.
fn needs_room(path: &str) -> bool {
    const NEEDY: [&str; 23] = [
        "BlobCreate",
        "DictUpdate",
        "FunctionCreate",
        "FunctionMap",
        "FunctionPutInputs",
        "MountPutFile",
        "PersistentSandboxCreate",
        "PersistentSandboxResume",
        "QueuePut",
        "SandboxContainerCreateV2",
        "SandboxCreate",
        "SandboxCreateV2",
        "SandboxSnapshotFs",
        "SandboxSnapshotFsAsync",
        "SharedVolumePutFile",
        "TaskContainerCreate",
        "TaskExecStart",
        "TaskSnapshotDirectory",
        "TaskSnapshotFilesystem",
        "VolumeCopyFiles",
        "VolumeCopyFiles2",
        "VolumePutFiles",
        "VolumePutFiles2",
    ];
    let name = path.strip_prefix(CONTROL_PLANE).or_else(|| path.strip_prefix(ROUTER));
    name.is_some_and(|name| NEEDY.contains(&name))
}

/// Getting a token is what these are for.
fn needs_no_token(path: &str) -> bool {
    matches!(path.strip_prefix(CONTROL_PLANE), Some("TokenFlowCreate" | "TokenFlowWait"))
}

fn has_token(ctx: &Ctx, headers: &HeaderMap) -> bool {
    let (id, secret) = auth::presented_token(headers);
    ctx.auth.is_token(id, secret)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

fn grpc_refusal(status: Status) -> Response {
    status.into_http::<Body>()
}

pub(crate) fn names_this_machine(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str()).or(host);
    authority.is_some_and(is_own_authority)
}

/// Whether a browser sent it for a page that is not of this machine. SDKs send no origin.
fn is_of_a_foreign_page(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| {
        let own = origin.to_str().ok().and_then(|it| it.split_once("://"));
        !own.is_some_and(|(_, authority)| is_own_authority(authority))
    })
}

/// Whether `host` or `host:port` is a name of this machine.
pub(crate) fn is_own_authority(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    OWN_NAMES.contains(&name)
}
