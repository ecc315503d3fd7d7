//! Sockets of a sandbox's own network, used from outside it.
//!
//! A socket belongs for ever to the network namespace it was made in: the container makes it inside,
//! and the server connects or listens with it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use container_network::plan;
use container_runtime::Container;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

/// Connections that may wait until they are accepted.
const BACKLOG: u32 = 128;

/// Connects to a port of the sandbox's loopback, by IPv4 or else IPv6.
pub(crate) async fn connect(container: &Container, port: u16) -> io::Result<TcpStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match socket(container, false).await?.connect(v4).await {
        Ok(stream) => Ok(stream),
        Err(refused) => {
            let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            // A program that listens on IPv6 alone is rare: what IPv4 said is the better answer.
            socket(container, true).await?.connect(v6).await.map_err(|_| refused)
        }
    }
}

/// Connects to a port of the address by which the sandbox knows itself: what listens on its loopback alone is not reached.
pub(crate) async fn connect_own(container: &Container, port: u16) -> io::Result<TcpStream> {
    socket(container, false).await?.connect((plan::SANDBOX, port).into()).await
}

/// A socket that sends to and receives from a UDP port of that address.
pub(crate) async fn udp_own(container: &Container, port: u16) -> io::Result<UdpSocket> {
    let socket: std::net::UdpSocket =
        container.udp_socket().await.map_err(io::Error::other)?.into();
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.connect((plan::SANDBOX, port)).await?;
    Ok(socket)
}

/// Listens on a port of the sandbox's loopback.
pub(crate) async fn listen(container: &Container, port: u16) -> io::Result<TcpListener> {
    let socket = socket(container, false).await?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

async fn socket(container: &Container, v6: bool) -> io::Result<TcpSocket> {
    let fd = container.tcp_socket(v6).await.map_err(io::Error::other)?;
    let stream = std::net::TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    Ok(TcpSocket::from_std_stream(stream))
}
