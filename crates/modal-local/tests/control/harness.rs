//! A server of its own for each test, a gRPC client that has its token, and a small HTTP client.

use std::collections::BTreeMap;

use modal_local::{PartSizes, Server, ServerConfig, StateDir, TokenPair};
use modal_proto::client::modal_client_client::ModalClientClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub(crate) type Client = ModalClientClient<InterceptedService<Channel, WithToken>>;

pub(crate) struct TestServer {
    server: Option<Server>,
    pub(crate) dir: tempfile::TempDir,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Some(Server::start(config(&dir)).await.unwrap());
        Self { server, dir }
    }

    /// Ends the server and starts another over the same directory.
    pub(crate) async fn restart(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        self.server = Some(Server::start(config(&self.dir)).await.unwrap());
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.server().url().to_owned()
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.url(), self.server().token().clone()).await
    }
}

fn config(dir: &tempfile::TempDir) -> ServerConfig {
    let mut config = ServerConfig::new(StateDir::new(dir.path()));
    config.blob_parts = PartSizes { from: 1_000, part: 400 };
    config
}

pub(crate) async fn connect(url: &str, token: TokenPair) -> Client {
    let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
    let key = None;
    ModalClientClient::with_interceptor(channel, WithToken { token, key })
        .max_decoding_message_size(usize::MAX)
}

/// Adds the token, and an idempotency key if there is one.
#[derive(Clone)]
pub(crate) struct WithToken {
    pub(crate) token: TokenPair,
    pub(crate) key: Option<String>,
}

impl Interceptor for WithToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("x-modal-token-id", self.token.id.parse().unwrap());
        metadata.insert("x-modal-token-secret", self.token.secret.expose().parse().unwrap());
        if let Some(key) = &self.key {
            metadata.insert("x-idempotency-key", key.parse().unwrap());
        }
        Ok(request)
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// One HTTP/1.1 exchange; `headers` without the ones that every request has.
pub(crate) async fn http(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let url = url::Url::parse(url).unwrap();
    let authority = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(&authority).await.unwrap();
    let mut head = format!("{method} {} HTTP/1.1\r\nconnection: close\r\n", url.path());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head += &format!("host: {authority}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer, and close, before it has read a body that it does not want.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    parse(&answer)
}

fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = answer[end + 4..].to_vec();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|it| it == "chunked");
    assert!(!is_chunked, "this small client does not read chunks");
    Answer { status, headers, body }
}
