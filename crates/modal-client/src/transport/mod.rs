//! Connections: to the control plane, and to the command routers of sandboxes.
//!
//! What Modal's Python client 1.6.4 does (`_utils/grpc_utils.py`, `sandbox/_task_command_router_client.py`), checked
//! sentence by sentence, and where this differs:
//! - `http://` is HTTP/2 with prior knowledge, `https://` is TLS against bundled and installed roots, `unix:` a socket.
//!   IPv6 literals work here; Python refuses them.
//! - Of a list, address n starts after n × 3 s or as soon as the one before it has failed. Python tries for 63 s;
//!   here the whole takes at most 9 s, so that a wrong address is told at once.
//! - A server has answered when its first frame has come, not when its port accepts ([`greeting`]).
//! - Proxies as Python takes them ([`proxy`]), but never for this machine, and without SOCKS.
//! - Pings every 30 s, 10 s to answer, idle connections too; windows of 64 MiB.
//! - A router is waited for up to 310 s. With a control server on this machine it may be plaintext or unverified.
//!   Its connection is kept while a sandbox uses it, and not dropped after 30 s of silence: one connection
//!   serves several sandboxes ([`pool`]).

mod address;
mod connector;
mod greeting;
mod pool;
pub(crate) mod proxy;
mod service;
mod trust;

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

pub(crate) use address::Address;
use connector::Connector;
use futures::stream::{FuturesUnordered, StreamExt as _};
use greeting::Heard;
pub(crate) use pool::{Lease, Pool};
pub(crate) use proxy::Rules;
pub use service::GrpcService;
pub(crate) use service::Stack;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use trust::Trust;

use crate::error::{BoxError, Error, Problem, Result};

/// How long all addresses of a control plane together may take to answer.
const RACE_LIMIT: Duration = Duration::from_secs(9);
/// The next address of a list is tried beside the ones before it after this long.
const HEAD_START: Duration = Duration::from_secs(3);
/// A connection to the control plane that fails is tried again after these: a server may just be starting.
const AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];
const WINDOW: u32 = 64 * 1024 * 1024;

/// Why there is no connection.
struct NotConnected {
    kind: ErrorKind,
    source: BoxError,
}

impl NotConnected {
    /// Neither a certificate that is not trusted, nor another protocol, nor a proxy that refuses changes soon.
    fn is_final(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::PermissionDenied
        )
    }
}

/// Connects to the first of several addresses of one service that answers, within 10 seconds or never.
///
/// The first gets a head start of three seconds; a failure ends it at once.
pub(crate) async fn race(addresses: &[Address], rules: &Rules) -> Result<(Channel, Address)> {
    let started = Instant::now();
    let unreachable = |source: BoxError| unreachable(addresses, started.elapsed(), source);
    let failed: Vec<_> = addresses.iter().map(|_| CancellationToken::new()).collect();
    let failed = &failed;
    let run = async |n: usize, address: &Address| {
        if let Some(before) = n.checked_sub(1) {
            let wait = HEAD_START * u32::try_from(n).unwrap_or(u32::MAX);
            let _ = tokio::time::timeout(wait, failed[before].cancelled()).await;
        }
        let connected = insist(address, rules).await;
        if connected.is_err() {
            failed[n].cancel();
        }
        connected.map(|channel| (channel, address.clone()))
    };
    let mut running: FuturesUnordered<_> =
        addresses.iter().enumerate().map(|(n, address)| run(n, address)).collect();
    let first = async {
        let mut last: BoxError = Box::new(Problem("no address is configured".to_owned()));
        while let Some(connected) = running.next().await {
            match connected {
                Ok(winner) => return Ok(winner),
                Err(failure) => last = failure.source,
            }
        }
        Err(last)
    };
    match tokio::time::timeout(RACE_LIMIT, first).await {
        Ok(settled) => settled.map_err(unreachable),
        Err(_) => {
            let problem = format!("no connection within {RACE_LIMIT:?}");
            Err(unreachable(Box::new(Problem(problem))))
        }
    }
}

fn unreachable(addresses: &[Address], waited: Duration, source: BoxError) -> Error {
    let urls = addresses.iter().map(|address| format!("`{address}`")).collect::<Vec<_>>();
    Error::Unreachable { urls: urls.join(", "), waited, source }
}

async fn insist(address: &Address, rules: &Rules) -> Result<Channel, NotConnected> {
    for delay in AGAIN {
        match connect(address, rules, Trust::Verified).await {
            // Silence has taken its time already.
            Err(failure) if !failure.is_final() && failure.kind != ErrorKind::TimedOut => {
                tracing::debug!(%address, error = %failure.source, "connecting failed and is tried again");
                tokio::time::sleep(delay).await;
            }
            settled => return settled,
        }
    }
    connect(address, rules, Trust::Verified).await
}

/// Connects once, and waits until the server has begun to speak. The channel connects again by itself when it
/// breaks later.
async fn connect(address: &Address, rules: &Rules, trust: Trust) -> Result<Channel, NotConnected> {
    let (told, mut heard) = watch::channel(Heard::Nothing);
    let connector =
        Connector { address: address.clone(), rules: rules.clone(), trust, heard: told };
    let channel = endpoint(address)?.connect_with_connector(connector).await?;
    let first = heard.wait_for(|heard| *heard != Heard::Nothing).await;
    match first.map(|heard| heard.clone()) {
        Ok(Heard::Problem(kind, text)) => {
            Err(NotConnected { kind, source: Box::new(Problem(text)) })
        }
        Ok(Heard::Greeting | Heard::Nothing) | Err(_) => Ok(channel),
    }
}

impl From<tonic::transport::Error> for NotConnected {
    fn from(error: tonic::transport::Error) -> Self {
        let kind = connector::kind_of(&error).unwrap_or(ErrorKind::Other);
        Self { kind, source: error.into() }
    }
}

/// How a server is spoken to. TLS is the connector's matter, hence the plain scheme of what is dialled.
fn endpoint(address: &Address) -> Result<Endpoint, tonic::transport::Error> {
    let uri = address.uri();
    let plain = uri.replacen("https://", "http://", 1);
    let endpoint = Endpoint::from_shared(plain)?
        .user_agent(concat!("modal-client-rs/", env!("CARGO_PKG_VERSION")))?
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    Ok(match uri.parse() {
        Ok(origin) => endpoint.origin(origin),
        Err(_) => endpoint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Proxies;

    fn rules() -> Rules {
        Rules::new(&Proxies::default()).unwrap()
    }

    fn closed() -> Address {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        address(listener.local_addr().unwrap())
    }

    fn address(at: std::net::SocketAddr) -> Address {
        Address::parse(&format!("http://{at}")).unwrap()
    }

    /// A server that begins with its SETTINGS and says nothing else.
    async fn greeter() -> Address {
        speaker(b"\0\0\0\x04\0\0\0\0\0").await
    }

    async fn speaker(words: &'static [u8]) -> Address {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::io::AsyncWriteExt::write_all(&mut socket, words).await.unwrap();
                open.push(socket);
            }
        });
        address(at)
    }

    #[tokio::test]
    async fn nobody_listening_is_a_clear_error_at_once() {
        let address = closed();
        let error = race(std::slice::from_ref(&address), &rules()).await.unwrap_err();
        let text = error.to_string();
        let start = format!("no Modal server answered at `{address}` within");
        assert!(text.starts_with(&start), "{text}");
        assert!(error.is_transient());
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_fails() {
        let (dead, alive) = (closed(), greeter().await);
        let (_, taken) = race(&[dead, alive.clone()], &rules()).await.unwrap();
        assert_eq!(taken, alive);
    }

    #[tokio::test]
    async fn a_port_that_accepts_and_says_nothing_is_a_clear_error_within_ten_seconds() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = address(listener.local_addr().unwrap());
        let started = Instant::now();
        let error = race(std::slice::from_ref(&address), &rules()).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("said nothing"), "{source}");
    }

    #[tokio::test]
    async fn a_silent_address_leaves_the_race_to_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = address(listener.local_addr().unwrap());
        let alive = greeter().await;
        let started = Instant::now();
        let (_, taken) = race(&[silent, alive.clone()], &rules()).await.unwrap();
        assert_eq!(taken, alive);
        assert!(started.elapsed() >= HEAD_START, "the first has its head start");
    }

    #[tokio::test]
    async fn a_web_server_is_told_from_a_modal_server() {
        let web = speaker(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let error = race(&[web], &rules()).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("does not speak gRPC's HTTP/2"), "{source}");
    }
}
