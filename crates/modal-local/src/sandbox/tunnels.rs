//! Ports of a sandbox, reachable on this machine's loopback.
//!
//! Modal gives each port a name on the internet and speaks TLS there. Here each gets a free port of
//! 127.0.0.1, and bytes pass unchanged: `https` is spoken only if the program inside speaks it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use container_runtime::Container;
use modal_proto::client::TunnelData;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::activity::Activity;
use super::sockets;
use super::spec::PortSpec;
use crate::error::{Error, Result};

/// Connections of one tunnel at a time; more wait in the listener's queue.
const CONNECTIONS: usize = 256;
/// After a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The tunnels of one sandbox; dropping them closes every connection.
pub(super) struct Tunnels {
    pub(super) data: Vec<TunnelData>,
    _serving: JoinSet<()>,
}

impl Tunnels {
    /// Opens one for each port.
    pub(super) async fn open(
        container: &Container,
        ports: &[PortSpec],
        activity: &Activity,
    ) -> Result<Self> {
        let mut serving = JoinSet::new();
        let mut data = Vec::with_capacity(ports.len());
        for spec in ports {
            let (listener, outside) = listen().await?;
            data.push(describe(*spec, outside));
            serving.spawn(serve(listener, container.clone(), spec.port, activity.clone()));
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

fn describe(spec: PortSpec, outside: u16) -> TunnelData {
    let host = Ipv4Addr::LOCALHOST.to_string();
    TunnelData {
        unencrypted_host: spec.unencrypted.then(|| host.clone()),
        unencrypted_port: spec.unencrypted.then_some(outside.into()),
        host,
        port: outside.into(),
        container_port: spec.port.into(),
    }
}

async fn serve(listener: TcpListener, container: Container, port: u16, activity: Activity) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((outside, _)) => {
                let (container, in_use) = (container.clone(), activity.begin());
                connections.spawn(async move {
                    carry(outside, &container, port).await;
                    drop((slot, in_use));
                });
            }
            Err(error) => {
                tracing::debug!(%error, port, "tunnel cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn carry(mut outside: TcpStream, container: &Container, port: u16) {
    let mut inside = match sockets::connect(container, port).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, port, "nothing listens in the sandbox"),
    };
    // Without delay for small writes where the kernel allows it; the tunnel works either way.
    let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
    if let Err(error) = copy_bidirectional(&mut outside, &mut inside).await {
        tracing::debug!(%error, port, "tunnelled connection broke off");
    }
}
