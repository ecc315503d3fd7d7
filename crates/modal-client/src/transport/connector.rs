//! How a connection is made: TCP or a Unix socket, through a proxy where one is configured, TLS on top, and a
//! look at the server's first words.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::{legacy::connect::HttpConnector, proxy::matcher::Intercept},
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
};
use tower::{Service, ServiceExt as _};

use super::{
    Address,
    greeting::{Greeted, Heard, SILENCE},
    proxy::{self, Rules},
    trust::Trust,
};

/// A connection, tunnel and TLS included, that is not made after this long is given up.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// Any connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes connections to one address.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) address: Address,
    pub(super) rules: Rules,
    pub(super) trust: Trust,
    pub(super) heard: watch::Sender<Heard>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Greeted<Box<dyn Io>>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The address is the connector's own; the one that tonic names is the same or stands for a socket.
    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let dialled = tokio::time::timeout(CONNECT_LIMIT, this.dial()).await;
            let io = dialled.map_err(|_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {CONNECT_LIMIT:?}"),
                )
            })??;
            Ok(TokioIo::new(Greeted::new(io, this.heard, SILENCE)))
        })
    }
}

impl Connector {
    async fn dial(&self) -> io::Result<Box<dyn Io>> {
        let (tls, host, port) = match &self.address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp { tls, host, port } => (*tls, host.as_str(), *port),
        };
        let io: Box<dyn Io> = match self.rules.way_to(&self.address) {
            Some(proxy) => through(&proxy, host, port).await?,
            None => Box::new(tcp(host, port).await?),
        };
        if tls { encrypt(io, host, self.trust, b"h2").await } else { Ok(io) }
    }
}

async fn through(proxy: &Intercept, host: &str, port: u16) -> io::Result<Box<dyn Io>> {
    let (tls, proxy_host, proxy_port) = proxy::target(proxy);
    let mut io: Box<dyn Io> = Box::new(tcp(&proxy_host, proxy_port).await?);
    if tls {
        io = encrypt(io, &proxy_host, Trust::Verified, b"http/1.1").await?;
    }
    proxy::tunnel(&mut io, proxy, host, port).await?;
    Ok(io)
}

/// A TCP connection to the first address of `host` that answers.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let address = Address::Tcp { tls: false, host: host.to_owned(), port };
    let uri = address.uri().parse::<Uri>().map_err(io::Error::other)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Ok(connector.oneshot(uri).await.map_err(flat)?.into_inner())
}

/// Keeps the kind of the system's own error where there is one: it says whether trying again helps.
fn flat(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(kind_of(&error).unwrap_or(io::ErrorKind::Other), error)
}

/// The kind of the innermost I/O error of a chain.
pub(super) fn kind_of(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut kind = None;
    let mut cause = Some(error);
    while let Some(error) = cause {
        kind = error.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        cause = error.source();
    }
    kind
}

async fn encrypt(
    io: Box<dyn Io>,
    host: &str,
    trust: Trust,
    protocol: &[u8],
) -> io::Result<Box<dyn Io>> {
    let mut config = trust.config();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Ok(Box::new(connector.connect(name, io).await?))
}
