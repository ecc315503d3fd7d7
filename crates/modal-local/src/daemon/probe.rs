//! One HTTP request to a server of this machine, for when no HTTP client is at hand.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::record::ServerRecord;

/// A server that does not answer within this time is not well.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Nor is one that looks at every file of its directory for longer than this.
const LONG_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The body of a successful answer.
pub(super) async fn request(
    record: &ServerRecord,
    method: &str,
    path: &str,
) -> io::Result<Vec<u8>> {
    within(TIMEOUT, record, method, path).await
}

/// The body of a successful answer that takes its time.
pub(super) async fn long_request(
    record: &ServerRecord,
    method: &str,
    path: &str,
) -> io::Result<Vec<u8>> {
    within(LONG_TIMEOUT, record, method, path).await
}

async fn within(
    limit: Duration,
    record: &ServerRecord,
    method: &str,
    path: &str,
) -> io::Result<Vec<u8>> {
    let exchange = exchange(record, method, path);
    match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")),
    }
}

async fn exchange(record: &ServerRecord, method: &str, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", record.port)).await?;
    let ServerRecord { port, token_id, token_secret, .. } = record;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\
         content-length: 0\r\nx-modal-token-id: {token_id}\r\n\
         x-modal-token-secret: {token_secret}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    body(&answer)
}

/// What follows the head of a successful answer that ends with its connection.
fn body(answer: &[u8]) -> io::Result<Vec<u8>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n");
    let end = end.ok_or_else(|| bad("the answer is not HTTP"))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        return Err(bad(&format!("the server answered with status {status}")));
    }
    Ok(answer[end + 4..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_successful_answers_have_a_body() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\na: b\r\n\r\n{}").unwrap(), b"{}");
        assert!(body(b"HTTP/1.1 401 Unauthorized\r\n\r\n{}").is_err());
        assert!(body(b"SSH-2.0-x\r\n").is_err());
    }
}
