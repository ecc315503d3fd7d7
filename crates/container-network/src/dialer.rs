//! The port through which permitted flows leave.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use async_trait::async_trait;
use tokio::net::{TcpStream, UdpSocket};

use crate::policy::Transport;

/// Opens the outside ends of flows that the policy permitted.
///
/// [`HostDialer`] is the one to use. Tests put another in its place, which leads documentation addresses to
/// servers on loopback: the policy then decides about real-looking addresses and no packet leaves the machine.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to `to`. The gateway bounds the time.
    async fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream>;
    /// A socket that sends to and receives from `to` alone.
    async fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket>;
    /// Whether `to` is no place outside but one that this dialer itself leads to, whatever the policy says.
    fn is_own(&self, _transport: Transport, _to: SocketAddr) -> bool {
        false
    }
}

/// Dials with ordinary sockets of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDialer;

#[async_trait]
impl Dialer for HostDialer {
    async fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        // A peer that vanished while the flow was idle must not hold its slot for ever.
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        Ok(stream)
    }

    async fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(to).await?;
        Ok(socket)
    }
}
