//! Ports of a sandbox, reachable on this machine's loopback.
//!
//! Modal gives each port a name on the internet and speaks TLS at its port 443, to the program inside plainly. Here each
//! gets a loopback address of its own where this server speaks TLS at port 443 with a certificate of its own, since clients
//! leave that port out; where this user may not listen there, a free port of 127.0.0.1. If the client wants it, there is
//! another one on which bytes pass unchanged.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use container_runtime::Container;
use modal_proto::client::TunnelData;
use rand::Rng as _;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::activity::Activity;
use super::inbound::Inbound;
use super::sockets;
use super::spec::PortSpec;
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Connections of one tunnel at a time; more wait in the listener's queue.
const CONNECTIONS: usize = 256;
/// Where clients look for TLS that are told a host alone.
const HTTPS: u16 = 443;
/// Loopback addresses that are tried: another program may have one.
const ADDRESSES: usize = 4;
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
        (activity, inbound): (&Activity, &Inbound),
    ) -> Result<Self> {
        let mut serving = JoinSet::new();
        let mut data = Vec::with_capacity(ports.len());
        for spec in ports {
            let (listener, encrypted) = listen_encrypted().await?;
            let inside = Inside {
                container: container.clone(),
                port: spec.port,
                activity: activity.clone(),
                inbound: inbound.clone(),
                tls: Some(ctx.certificates.acceptor(*encrypted.ip(), spec.h2)?),
            };
            let mut plain = None;
            if spec.unencrypted {
                let (listener, address) = listen((Ipv4Addr::LOCALHOST, 0)).await?;
                plain = Some(address);
                serving.spawn(serve(listener, Inside { tls: None, ..inside.clone() }));
            }
            serving.spawn(serve(listener, inside));
            data.push(describe(*spec, encrypted, plain));
        }
        Ok(Self { data, _serving: serving })
    }
}

/// An address of its own at port 443 where that may be had, else a free port.
async fn listen_encrypted() -> Result<(TcpListener, SocketAddrV4)> {
    for _ in 0..ADDRESSES {
        match listen((random_loopback(), HTTPS)).await {
            Err(error) => tracing::debug!(%error, "no port 443 for a tunnel"),
            found => return found,
        }
    }
    listen((Ipv4Addr::LOCALHOST, 0)).await
}

async fn listen((ip, port): (Ipv4Addr, u16)) -> Result<(TcpListener, SocketAddrV4)> {
    let address = (ip, port).into();
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, SocketAddrV4::new(ip, port)))
}

/// Neither 127.0.*.*, where other programs have their addresses, nor one that ends in 0 or 255.
fn random_loopback() -> Ipv4Addr {
    let mut rng = rand::rng();
    Ipv4Addr::new(127, rng.random_range(1..=254), rng.random(), rng.random_range(1..=254))
}

fn describe(spec: PortSpec, encrypted: SocketAddrV4, plain: Option<SocketAddrV4>) -> TunnelData {
    TunnelData {
        unencrypted_host: plain.map(|address| address.ip().to_string()),
        unencrypted_port: plain.map(|address| address.port().into()),
        host: encrypted.ip().to_string(),
        port: encrypted.port().into(),
        container_port: spec.port.into(),
    }
}

/// Where a tunnel leads.
#[derive(Clone)]
struct Inside {
    container: Container,
    port: u16,
    activity: Activity,
    inbound: Inbound,
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
            Ok((_, peer)) if !inside.inbound.allows(peer.ip()) => {
                tracing::debug!(%peer, port = inside.port, "kept out by the inbound allow-list");
            }
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
