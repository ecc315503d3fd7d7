//! A proxy on loopback that knows one server, whatever it is asked for.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The proxy's address and the requests that it got.
pub(crate) struct Proxy {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

/// Tunnels to `target` for who sends `authorization`, and refuses everybody else.
pub(crate) async fn proxy(target: &str, authorization: &'static str) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (kept, target) = (Arc::clone(&requests), target.trim_start_matches("http://").to_owned());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(tunnel(client, target.clone(), authorization, Arc::clone(&kept)));
        }
    });
    Proxy { address, requests }
}

async fn tunnel(
    mut client: TcpStream,
    target: String,
    authorization: &'static str,
    kept: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let is_allowed = head.contains(&format!("Proxy-Authorization: {authorization}\r\n"));
    kept.lock().unwrap().push(head);
    if !is_allowed {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        return client.write_all(refusal).await.unwrap();
    }
    // The server may speak at once: its first words come right behind the answer.
    let mut server = TcpStream::connect(target).await.unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
