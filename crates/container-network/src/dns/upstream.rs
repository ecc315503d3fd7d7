//! The machine's resolvers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Carrier;
use super::message::{Query, framed};

/// For one resolver, once.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Times the list is gone through. A sandbox's own resolver gives up after 10 s or so.
const ROUNDS: usize = 2;

/// Resolvers in the order in which they are asked.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    resolvers: Vec<SocketAddr>,
}

impl Upstream {
    pub(crate) fn new(resolvers: Vec<SocketAddr>) -> Self {
        Self { resolvers }
    }

    /// The first reply that any of them gives.
    pub(super) async fn ask(&self, query: &Query<'_>, carrier: Carrier) -> Option<Vec<u8>> {
        for resolver in self.resolvers.iter().cycle().take(self.resolvers.len() * ROUNDS) {
            let exchange = async {
                match carrier {
                    Carrier::Udp => over_udp(*resolver, query).await,
                    Carrier::Tcp => over_tcp(*resolver, query).await,
                }
            };
            match timeout(PATIENCE, exchange).await {
                Ok(Ok(reply)) => return Some(reply),
                Ok(Err(error)) => tracing::debug!(%resolver, %error, "resolver failed"),
                Err(_) => tracing::debug!(%resolver, "resolver did not answer"),
            }
        }
        None
    }
}

async fn over_udp(resolver: SocketAddr, query: &Query<'_>) -> io::Result<Vec<u8>> {
    let any: IpAddr = if resolver.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(query.bytes()).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let size = socket.recv(&mut buffer).await?;
        if query.is_answered_by(&buffer[..size]) {
            buffer.truncate(size);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(resolver: SocketAddr, query: &Query<'_>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let message = framed(query.bytes()).ok_or(io::ErrorKind::InvalidInput)?;
    stream.write_all(&message).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if query.is_answered_by(&reply) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}
