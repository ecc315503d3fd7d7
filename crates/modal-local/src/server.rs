//! The listener: gRPC and HTTP/1.1 on one port of this machine.

mod gate;

pub(crate) use self::gate::{OWN_NAMES, names_this_machine};

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use modal_proto::client::modal_client_server::ModalClientServer;
use modal_proto::task_command_router::task_command_router_server::TaskCommandRouterServer;
use secret_string::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

pub(crate) use self::gate::is_own_authority;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::image::BasePolicy;
use crate::room::{DiskQuota, DiskReserve};
use crate::service::ControlPlane;
use crate::service::router::CommandRouter;
use crate::state::blobs::PartSizes;
use crate::state_dir::StateDir;

/// Clients ping every 30 seconds; we do, too, and notice dead ones.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a ping may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long calls may take to finish when the server stops; long polls would take a minute.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// What clients allow on a stream before they must be read: the SDKs' own window.
const WINDOW: u32 = 16 * 1024 * 1024;

/// The credentials of clients.
#[derive(Debug, Clone)]
pub struct TokenPair {
    /// `ak-…`
    pub id: String,
    /// `as-…`
    pub secret: SecretString,
}

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where everything is kept.
    pub state_dir: StateDir,
    /// The loopback port; 0 takes a free one.
    pub port: u16,
    /// The credentials to ask for; without, the state directory's own.
    pub token: Option<TokenPair>,
    /// The program that the container runtime re-executes; by default this one.
    pub spawner: Option<std::path::PathBuf>,
    /// When blobs are uploaded in parts.
    pub blob_parts: PartSizes,
    /// The image builder version that environments start with.
    pub image_builder_version: String,
    /// What images of registries are made of.
    pub bases: BasePolicy,
    /// A request to a web function that is not answered by then gets a redirect to where its answer
    /// will be, as on Modal.
    pub web_redirect: Duration,
    /// How much of the state directory's disk is left free.
    pub disk_reserve: DiskReserve,
    /// How much the state directory may take.
    pub disk_quota: DiskQuota,
}

impl ServerConfig {
    /// A server with the defaults on a free port.
    pub fn new(state_dir: StateDir) -> Self {
        Self {
            state_dir,
            port: 0,
            token: None,
            spawner: None,
            blob_parts: PartSizes::default(),
            image_builder_version: "2025.06".to_owned(),
            bases: BasePolicy::default(),
            web_redirect: Duration::from_secs(150),
            disk_reserve: DiskReserve::default(),
            disk_quota: DiskQuota::default(),
        }
    }
}

/// A running server. Dropping it stops serving at once; [`Server::stop`] ends sandboxes first.
pub struct Server {
    pub(crate) ctx: Ctx,
    closed: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// Opens the state directory and listens.
    pub async fn start(config: ServerConfig) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
        let listen_error = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let port = listener.local_addr().map_err(listen_error)?.port();
        let ctx = Ctx::open(config, format!("http://127.0.0.1:{port}")).await?;
        let closed = CancellationToken::new();
        let serving = tokio::spawn(listen(listener, ctx.clone(), closed.clone()));
        ctx.functions.resume(&ctx).await?;
        Ok(Self { ctx, closed, serving })
    }

    /// Where clients connect: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.ctx.url
    }

    /// What clients must present.
    pub fn token(&self) -> &TokenPair {
        self.ctx.auth.token()
    }

    /// Ends all sandboxes and stops serving.
    pub async fn stop(mut self) {
        self.ctx.stop.cancel();
        self.ctx.web.close();
        tokio::join!(self.ctx.functions.shutdown(), self.ctx.sandboxes.shutdown());
        self.ctx.logs.flush().await;
        self.closed.cancel();
        if tokio::time::timeout(STOP_GRACE, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
        self.ctx.db.close().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ctx.connect.stop();
        self.serving.abort();
    }
}

async fn listen(
    listener: TcpListener,
    ctx: Ctx,
    closed: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_routes(routes(ctx))
        .serve_with_incoming_shutdown(incoming, closed.cancelled_owned())
        .await
}

/// Everything that is served, behind the [gate](gate::gate).
///
/// Message limits are lifted: one message may carry a whole serialized function or batch of files.
fn routes(ctx: Ctx) -> Routes {
    let control_plane = ModalClientServer::new(ControlPlane::new(ctx.clone()))
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    let router = TaskCommandRouterServer::new(CommandRouter::new(ctx.clone()))
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    let grpc = Routes::new(control_plane).add_service(router).into_axum_router();
    grpc.merge(crate::service::router::old_files::routes(ctx.clone()))
        .merge(crate::http::routes(ctx.clone()))
        .fallback(gate::unknown_path)
        .layer(axum::middleware::from_fn_with_state(ctx, gate::gate))
        .into()
}
