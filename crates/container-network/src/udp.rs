//! One UDP exchange: a pair of ends and a connected socket of this machine between them.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::gateway::Shared;
use crate::packet;
use crate::policy::Transport;

/// As long as NAT devices keep a UDP mapping that has seen traffic (RFC 4787, REQ-5: at least two minutes).
const IDLE: Duration = Duration::from_secs(120);

/// Carries datagrams until nobody sent one for [`IDLE`] or the policy forbids it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    client: SocketAddrV4,
    server: SocketAddrV4,
    first: Vec<u8>,
    mut payloads: mpsc::Receiver<Vec<u8>>,
) {
    let socket = match shared.dial_udp(server.into()).await {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%server, %error, "no UDP socket"),
    };
    let mut policy = shared.policy_changes();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    send(&socket, server, &first).await;
    loop {
        let deadline = Instant::now() + IDLE;
        tokio::select! {
            payload = payloads.recv() => match payload {
                Some(payload) => send(&socket, server, &payload).await,
                None => return,
            },
            received = socket.recv(&mut buffer) => match received {
                Ok(size) => {
                    if let Some(packet) = packet::datagram(server, client, &buffer[..size]) {
                        shared.tun().send(&packet);
                    }
                }
                // An earlier datagram was refused; the next may not be.
                Err(error) => tracing::debug!(%server, %error, "datagram refused"),
            },
            changed = policy.changed() => {
                if changed.is_err() || !shared.still_permits(Transport::Udp, server.into()) {
                    return;
                }
            }
            () = sleep_until(deadline) => return,
        }
    }
}

async fn send(socket: &UdpSocket, server: SocketAddrV4, payload: &[u8]) {
    if let Err(error) = socket.send(payload).await {
        tracing::debug!(%server, %error, "datagram not sent");
    }
}
