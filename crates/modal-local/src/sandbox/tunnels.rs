//! Ports of a sandbox, reachable on this machine's loopback.
//!
//! Modal gives each port a name on the internet and speaks TLS there, to the program inside plainly. Here each gets a
//! free port of 127.0.0.1 where this server speaks TLS with a certificate of its own, and, if the client wants it, another
//! one on which bytes pass unchanged.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use container_runtime::Container;
use modal_proto::client::TunnelData;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::activity::Activity;
use super::sockets;
use super::spec::PortSpec;
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Connections of one tunnel at a time; more wait in the listener's queue.
const CONNECTIONS: usize = 256;
/// How long a client may take to agree on TLS.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
/// After a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The tunnels of one sandbox; dropping them closes every connection.
pub(crate) struct Tunnels {
    pub(crate) data: Vec<TunnelData>,
    _serving: JoinSet<()>,
}

impl Tunnels {
    /// Opens one for each port.
    pub(crate) async fn open(
        ctx: &Ctx,
        container: &Container,
        ports: &[PortSpec],
        activity: &Activity,
    ) -> Result<Self> {
        let mut serving = JoinSet::new();
        let mut data = Vec::with_capacity(ports.len());
        for spec in ports {
            let (listener, encrypted) = listen().await?;
            let inside = Inside {
                container: container.clone(),
                port: spec.port,
                activity: activity.clone(),
                tls: Some(ctx.certificates.acceptor(spec.h2)),
            };
            let mut plain = None;
            if spec.unencrypted {
                let (listener, port) = listen().await?;
                plain = Some(port);
                serving.spawn(serve(listener, Inside { tls: None, ..inside.clone() }));
            }
            serving.spawn(serve(listener, inside));
            data.push(describe(*spec, encrypted, plain));
        }
        Ok(Self { data, _serving: serving })
    }
}

async fn listen() -> Result<(TcpListener, u16)> {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

fn describe(spec: PortSpec, encrypted: u16, plain: Option<u16>) -> TunnelData {
    let host = Ipv4Addr::LOCALHOST.to_string();
    TunnelData {
        unencrypted_host: plain.map(|_| host.clone()),
        unencrypted_port: plain.map(Into::into),
        host,
        port: encrypted.into(),
        container_port: spec.port.into(),
    }
}

/// Where a tunnel leads.
#[derive(Clone)]
struct Inside {
    container: Container,
    port: u16,
    activity: Activity,
    /// How it is encrypted outside, if it is.
    tls: Option<TlsAcceptor>,
}

async fn serve(listener: TcpListener, inside: Inside) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((outside, _)) => {
                let (inside, in_use) = (inside.clone(), inside.activity.begin());
                connections.spawn(async move {
                    if let Err(error) = carry(outside, &inside).await {
                        tracing::debug!(%error, port = inside.port, "tunnelled connection broke off");
                    }
                    drop((slot, in_use));
                });
            }
            Err(error) => {
                tracing::debug!(%error, port = inside.port, "tunnel cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn carry(mut outside: TcpStream, inside: &Inside) -> io::Result<()> {
    // Without delay for small writes where the kernel allows it; the tunnel works either way.
    let _ = outside.set_nodelay(true);
    match &inside.tls {
        None => {
            let mut stream = sockets::connect(&inside.container, inside.port).await?;
            let _ = stream.set_nodelay(true);
            copy_bidirectional(&mut outside, &mut stream).await?;
        }
        Some(tls) => {
            let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(outside));
            let mut outside = handshake.await.map_err(io::Error::from)??;
            let mut stream = sockets::connect(&inside.container, inside.port).await?;
            let _ = stream.set_nodelay(true);
            copy_bidirectional(&mut outside, &mut stream).await?;
        }
    }
    Ok(())
}
