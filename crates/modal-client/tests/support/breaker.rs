//! A wire that breaks: it forwards connections to a server and cuts each after so many bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Where connections are cut, and how often that happened.
pub(crate) struct Breaker {
    pub(crate) url: String,
    pub(crate) cuts: Arc<AtomicU32>,
}

/// Forwards to `target`; every connection is cut after it carried `limit` bytes in one direction or the
/// other, but no more than `most` are cut.
pub(crate) async fn breaker(target: &str, limit: u64, most: u32) -> Breaker {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let cuts = Arc::new(AtomicU32::new(0));
    let (counted, target) = (Arc::clone(&cuts), target.trim_start_matches("http://").to_owned());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&target).await.unwrap();
            tokio::spawn(forward(client, server, limit, most, Arc::clone(&counted)));
        }
    });
    Breaker { url, cuts }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    limit: u64,
    most: u32,
    cuts: Arc<AtomicU32>,
) {
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let carried = Arc::new(AtomicU64::new(0));
    let is_cut = tokio::select! {
        cut = copy(client_in, server_out, limit, &carried) => cut,
        cut = copy(server_in, client_out, limit, &carried) => cut,
    };
    // Dropping both halves of both ends closes the connections in the middle of whatever they carry.
    if is_cut && cuts.fetch_add(1, Ordering::SeqCst) >= most {
        panic!("the wire was cut more often than the test allows");
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    limit: u64,
    carried: &AtomicU64,
) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return false };
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return false;
        }
        if carried.fetch_add(read as u64, Ordering::SeqCst) + read as u64 > limit {
            return true;
        }
    }
}
