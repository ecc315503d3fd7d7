//! A gRPC server of both of Modal's services: every call goes to one handler, as bytes, and the handler says what to answer.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    server::{Grpc, NamedService, StreamingService},
};

/// What a call is answered with: messages, then a status (`None` is OK).
pub struct Answer {
    /// In the order in which they are sent.
    pub messages: BoxStream<'static, Bytes>,
    /// What follows them; `None` is OK.
    pub status: Option<Status>,
}

impl Answer {
    /// One message.
    pub fn one(message: &impl Message) -> Self {
        Self::many([message.encode_to_vec().into()])
    }

    /// Messages, encoded already.
    pub fn many(messages: impl IntoIterator<Item = Bytes>) -> Self {
        let messages: Vec<Bytes> = messages.into_iter().collect();
        Self { messages: stream::iter(messages).boxed(), status: None }
    }

    /// No message, and this status.
    pub fn fail(status: Status) -> Self {
        Self { messages: stream::empty().boxed(), status: Some(status) }
    }

    /// Fails after its messages.
    pub fn then(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }
}

/// One call: its method, its metadata, its messages as they come.
pub struct Call {
    /// Its name, without its service.
    pub method: String,
    /// Its headers.
    pub metadata: MetadataMap,
    /// What is sent, as it comes.
    pub messages: Streaming<Bytes>,
}

impl Call {
    /// The next message; `None` at the end, or where the connection broke.
    pub async fn message<M: Message + Default>(&mut self) -> Option<M> {
        let bytes = self.messages.message().await.ok()??;
        Some(M::decode(bytes).unwrap())
    }

    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What answers every call.
pub type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync>;

/// Serves both of Modal's services on a free port of loopback, for as long as the test runs.
pub async fn serve(
    handler: impl Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    serve_on(listener, Arc::new(handler));
    url
}

/// Both services without a connection, for a client in this process.
pub fn in_process(
    handler: impl Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
) -> tonic::service::Routes {
    let handler: Handler = Arc::new(handler);
    tonic::service::Routes::new(Control(Raw(Arc::clone(&handler))))
        .add_service(Router(Raw(handler)))
}

/// A status that asks to wait `seconds`, as Modal writes it.
pub fn throttled(seconds: f32) -> Status {
    let policy = modal_proto::client::RpcRetryPolicy { retry_after_secs: seconds }.encode_to_vec();
    let url = b"type.modal.com/modal.client.RPCRetryPolicy";
    // google.rpc.Status { details: [Any { type_url, value }] }, written by hand.
    let mut any = vec![0x0a, url.len() as u8];
    any.extend(url);
    any.extend([0x12, policy.len() as u8]);
    any.extend(policy);
    let mut details = vec![0x08, 0x08, 0x1a, any.len() as u8];
    details.extend(any);
    Status::with_details(tonic::Code::ResourceExhausted, "slow down", details.into())
}

/// Serves both services on a socket that listens already.
pub fn serve_on(listener: TcpListener, handler: Handler) {
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder()
        .add_service(Control(Raw(Arc::clone(&handler))))
        .add_service(Router(Raw(handler)));
    tokio::spawn(server.serve_with_incoming(incoming));
}

/// Serves both services with TLS on a free port of loopback.
pub async fn serve_tls(
    identity: tonic::transport::Identity,
    handler: impl Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let handler: Handler = Arc::new(handler);
    let tls = tonic::transport::ServerTlsConfig::new().identity(identity);
    let server = tonic::transport::Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(Control(Raw(Arc::clone(&handler))))
        .add_service(Router(Raw(handler)));
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(server.serve_with_incoming(incoming));
    port
}

/// Serves both services on a socket of this machine.
pub fn serve_unix(
    path: &std::path::Path,
    handler: impl Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let handler: Handler = Arc::new(handler);
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let server = tonic::transport::Server::builder()
        .add_service(Control(Raw(Arc::clone(&handler))))
        .add_service(Router(Raw(handler)));
    tokio::spawn(server.serve_with_incoming(incoming));
}

#[derive(Clone)]
struct Raw(Handler);

impl StreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let handler = Arc::clone(&self.handler);
        let (metadata, _, messages) = request.into_parts();
        let call = Call { method: self.name.clone(), metadata, messages };
        Box::pin(async move {
            let answer = handler(call).await;
            let status = stream::iter(answer.status.map(Err));
            Ok(Response::new(answer.messages.map(Ok).chain(status).boxed()))
        })
    }
}

struct Method {
    handler: Handler,
    name: String,
}

macro_rules! service {
    ($name:ident, $full:literal) => {
        #[derive(Clone)]
        struct $name(Raw);

        impl NamedService for $name {
            const NAME: &'static str = $full;
        }

        impl tower::Service<http::Request<tonic::body::Body>> for $name {
            type Response = http::Response<tonic::body::Body>;
            type Error = Infallible;
            type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
                let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                let method = Method { handler: Arc::clone(&self.0.0), name };
                Box::pin(async move {
                    let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(usize::MAX);
                    Ok(grpc.streaming(method, request).await)
                })
            }
        }
    };
}

service!(Control, "modal.client.ModalClient");
service!(Router, "modal.task_command_router.TaskCommandRouter");

#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
