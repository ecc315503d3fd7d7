//! A container's way to this server: Modal's API on a port and a socket that only this container sees.
//!
//! The port is one of the container's own loopback, listened on from here; the socket lies in a directory of its own,
//! shown read-only inside. Programs are told the port: the SDK takes a server on loopback for one of this machine, and
//! then commands in sandboxes need no certificate. A call that comes over either is that container's, whatever it says
//! about itself: it carries an [`Identity`], and calls that are not for containers are refused. Uploads, downloads and commands in sandboxes go over HTTP to the
//! server's own port, which is carried into the container; there every request is signed or holds a
//! token, as outside.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use container_runtime::Container;
use futures::Stream;
use modal_proto::client::modal_client_server::ModalClientServer;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpIncoming};

use crate::blocking;
use crate::ctx::Ctx;
use crate::durable;
use crate::error::{Error, Result};
use crate::function::pool::Pool;
use crate::function::task::Task;
use crate::sandbox::inside_listener;
use crate::service::{ControlPlane, not_served};

/// Where the directory is shown.
pub(super) const INSIDE: &str = "/__modal/run";
/// The container's arguments.
pub(super) const ARGUMENTS: &str = "/__modal/run/arguments.pb";
const SOCKET: &str = "server.sock";
const ARGUMENTS_FILE: &str = "arguments.pb";
/// What a stream may carry before it must be read.
const WINDOW: u32 = 16 << 20;
/// Calls that are for people at a terminal, whoever else may make them.
const NEVER: [&str; 14] = [
    "EnvironmentCreate",
    "EnvironmentDelete",
    "EnvironmentRoleSet",
    "EnvironmentUpdate",
    "TokenFlowCreate",
    "TokenFlowWait",
    "TokenInfoGet",
    "WebhookTokenCreate",
    "WebhookTokenDelete",
    "WebhookTokenEnvironmentAdd",
    "WebhookTokenEnvironmentRemove",
    "WebhookTokenUpdate",
    "WorkspaceSetDefaultEnvironment",
    "WorkspaceSetImageBuilderVersion",
];
/// All that a container may call whose function restricts its access.
const RESTRICTED: [&str; 19] = [
    "BlobCreate",
    "BlobGet",
    "ContainerHeartbeat",
    "ContainerHello",
    "ContainerLog",
    "ContainerServerLifecycleReady",
    "ContainerStop",
    "FunctionCallGetDataIn",
    "FunctionCallPutDataOut",
    "FunctionGetDynamicConcurrency",
    "FunctionGetInputs",
    "FunctionGetSerialized",
    "FunctionPutOutputs",
    "FunctionStartPtyShell",
    "TaskCurrentInputs",
    "TaskResult",
    "VolumeCommit",
    "VolumeReload",
    "ClientHello",
];

/// Which container makes a call. Calls without it come from clients.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) pool: Arc<Pool>,
    pub(crate) task: Arc<Task>,
}

/// The socket at work; dropping it cuts every connection.
pub(super) struct Plane {
    ctx: Ctx,
    identity: Identity,
    serving: JoinSet<()>,
}

/// The port of this server's HTTP, the same inside.
pub(super) fn port(ctx: &Ctx) -> u16 {
    ctx.url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
}

impl Plane {
    /// Makes the directory with the socket and the arguments, and serves.
    pub(super) async fn open(
        ctx: &Ctx,
        pool: &Arc<Pool>,
        task: &Arc<Task>,
        directory: &Path,
        arguments: Vec<u8>,
    ) -> Result<Self> {
        let path = directory.to_owned();
        let listener = blocking::run(move || {
            durable::create_dir(&path, 0o755)?;
            let file = path.join(ARGUMENTS_FILE);
            std::fs::write(&file, arguments).map_err(Error::file("write", &file))?;
            set_mode(&file, 0o644)?;
            listen(&path)
        })
        .await?;
        let listener =
            UnixListener::from_std(listener).map_err(Error::file("listen on", directory))?;
        let identity = Identity { pool: Arc::clone(pool), task: Arc::clone(task) };
        let mut serving = JoinSet::new();
        let incoming = UnixListenerStream::new(listener);
        serving.spawn(serve(incoming, ctx.clone(), identity.clone()));
        Ok(Self { ctx: ctx.clone(), identity, serving })
    }

    /// Listens on a port of the container's own loopback too; answers its address.
    pub(super) async fn listen_inside(mut self, container: &Container) -> Result<(Self, String)> {
        let failed = |source| Error::Runtime { source: Box::new(source) };
        let listener = inside_listener(container, 0).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        self.serving.spawn(serve(incoming, self.ctx.clone(), self.identity.clone()));
        Ok((self, format!("http://127.0.0.1:{port}")))
    }

    /// Carries the server's port into the container, from a listener inside.
    pub(super) fn relay(mut self, ctx: &Ctx, inside: std::io::Result<TcpListener>) -> Self {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port(ctx)));
        match inside {
            Ok(listener) => {
                self.serving.spawn(container_network::relay(listener, target));
            }
            Err(error) => tracing::warn!(%error, "a container reaches no uploads and downloads"),
        }
        self
    }
}

/// A path of any length: the kernel's limit for names of sockets is short.
fn listen(directory: &Path) -> Result<std::os::unix::net::UnixListener> {
    use std::os::fd::AsRawFd as _;
    let failed = || Error::file("make a socket in", directory);
    let open = std::fs::File::open(directory).map_err(failed())?;
    let short = format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd());
    let listener = std::os::unix::net::UnixListener::bind(short).map_err(failed())?;
    listener.set_nonblocking(true).map_err(failed())?;
    // For whichever user the program is; who is outside the container does not get to the directory.
    set_mode(&directory.join(SOCKET), 0o666)?;
    Ok(listener)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(Error::file("set the mode of", path))
}

async fn serve<S, C>(incoming: S, ctx: Ctx, identity: Identity)
where
    S: Stream<Item = std::io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    C::ConnectInfo: Clone + Send + Sync + 'static,
{
    let service = ModalClientServer::new(ControlPlane::new(ctx))
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    let routes = Routes::new(service)
        .into_axum_router()
        .layer(axum::middleware::from_fn_with_state(identity.clone(), admit));
    let served = tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_routes(routes.into())
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::warn!(%error, task = %identity.task.id, "the socket of a container is no longer served");
    }
}

/// Tells the handler who calls, and refuses what is not for containers.
async fn admit(
    axum::extract::State(identity): axum::extract::State<Identity>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let rpc = path.rsplit('/').next().unwrap_or_default().to_owned();
    if let Err(status) = permit(&rpc, path, identity.task.spec.function.untrusted) {
        return status.into_http::<Body>().into_response();
    }
    request.extensions_mut().insert(identity);
    next.run(request).await
}

fn permit(rpc: &str, path: &str, restricted: bool) -> Result<(), Status> {
    if !crate::coverage::is_served(path.trim_start_matches('/')) {
        return Err(not_served(rpc));
    }
    if NEVER.contains(&rpc) || (restricted && !RESTRICTED.contains(&rpc)) {
        return Err(Status::permission_denied(format!(
            "`{rpc}` may not be called from this container"
        )));
    }
    Ok(())
}
