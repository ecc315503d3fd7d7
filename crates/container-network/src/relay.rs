//! [`relay`]: a listening socket inside a sandbox, spliced to one address of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections of one relay at a time; more wait in the listener's queue.
const CONNECTIONS: usize = 256;
/// After a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Carries each connection that `listener` gets to `target`, and back, half-closes included.
///
/// `listener` is a socket that was made inside the sandbox's network namespace, so this is the one way from a
/// sandbox to a chosen port of this machine; no policy is asked. Never returns: drop or abort the future to end
/// the relay, its connections and the listener. A connection whose target does not answer is closed.
pub async fn relay(listener: TcpListener, target: SocketAddr) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((inside, _)) => {
                connections.spawn(async move {
                    splice(inside, target).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!(%error, %target, "relay cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn splice(mut inside: TcpStream, target: SocketAddr) {
    let mut outside = match TcpStream::connect(target).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, %target, "relay target does not answer"),
    };
    // Without delay for small writes where the kernel allows it; the relay works either way.
    let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
    if let Err(error) = tokio::io::copy_bidirectional(&mut inside, &mut outside).await {
        tracing::debug!(%error, %target, "relayed connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_half_closed_connection_still_gets_its_answer() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let entrance = listener.local_addr().unwrap();
        let relaying = tokio::spawn(relay(listener, target));
        let serving = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.unwrap();
            request.reverse();
            stream.write_all(&request).await.unwrap();
        });
        let mut client = TcpStream::connect(entrance).await.unwrap();
        client.write_all(b"abc").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "cba");
        serving.await.unwrap();
        relaying.abort();
    }

    #[tokio::test]
    async fn a_target_that_refuses_closes_the_connection() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let entrance = listener.local_addr().unwrap();
        let relaying = tokio::spawn(relay(listener, gone));
        let mut client = TcpStream::connect(entrance).await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
        relaying.abort();
    }
}
