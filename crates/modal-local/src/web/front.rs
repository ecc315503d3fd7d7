//! A request becomes an input of the function, and what its program says becomes the response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use modal_proto::client::asgi::{HttpDisconnect, HttpRequest, HttpResponseStart, Type as Message};
use modal_proto::client::function_input::ArgsOneof;
use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{DataFormat, FunctionCallInvocationType, FunctionInput};

use super::credentials;
use super::endpoint::Target;
use super::parameters;
use super::pickle::{self, Value};
use super::server;
use super::websocket;
use crate::ctx::Ctx;
use crate::function::calls::Input;
use crate::function::definition::FunctionSpec;
use crate::function::exchange::Exchange;
use crate::ids::{CallId, InputId};

/// The query by which a client comes back for the answer to an earlier request.
const RESUME: &str = "__modal_function_call_id";
/// How long a client has to come back for an answer.
const RESUME_WITHIN: Duration = Duration::from_secs(600);
/// The program wants a first message within five seconds; one without content is sent if the client
/// is slow.
const FIRST_BODY: Duration = Duration::from_secs(1);
/// How long a connection may take that is about itself, not about the request.
pub(super) const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Answers one request.
pub(super) async fn answer(target: Arc<Target>, client: SocketAddr, request: Request) -> Response {
    if let Some(refused) = refuse_strangers(&request) {
        return refused;
    }
    let pool = match target.ctx.functions.pool(&target.ctx, &target.function).await {
        Ok(pool) => pool,
        Err(error) => return plain(StatusCode::NOT_FOUND, &error.to_string()),
    };
    let spec = pool.spec();
    if spec.is_server() {
        return server::answer(&target, pool, &spec, request).await;
    }
    if let Some(refused) = check_proxy_auth(&target, &spec, request.headers()).await {
        return refused;
    }
    let target = match parameters::bind(&target, &spec, request.uri().query()).await {
        Ok(target) => target,
        Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if let Some(call) = resumed(&request) {
        return match target.ctx.web.unpark(&call, &target.function) {
            Some(visit) => respond(visit, &target, request.uri()).await,
            None => plain(StatusCode::NOT_FOUND, "the function call has ended or never was"),
        };
    }
    if websocket::is_upgrade(request.headers()) {
        return websocket::answer(target, client, request).await;
    }
    let (parts, body) = request.into_parts();
    let scope = http_scope(&parts, client, target.port);
    let visit = match Visit::begin(&target, scope).await {
        Ok(visit) => visit,
        Err(error) => return plain(StatusCode::NOT_FOUND, &error.to_string()),
    };
    tokio::spawn(send_body(Arc::clone(&visit.exchange), body));
    respond(visit, &target, &parts.uri).await
}

/// One request under way. Dropping it before the answer is complete tells the program that the
/// client is gone.
pub(super) struct Visit {
    ctx: Ctx,
    target: Arc<Target>,
    pub(super) exchange: Arc<Exchange>,
    gone: Option<Message>,
}

impl Visit {
    /// Queues the request as an input.
    pub(super) async fn begin(target: &Arc<Target>, scope: Value) -> crate::Result<Self> {
        let ctx = &target.ctx;
        let exchange = ctx.functions.exchanges.begin();
        let input = Input {
            id: InputId::random(),
            call: exchange.call.clone(),
            function: target.function.clone(),
            idx: 0,
            invocation: FunctionCallInvocationType::Sync as i32,
            input: FunctionInput {
                args_oneof: Some(ArgsOneof::Args(pickle::arguments(scope))),
                data_format: DataFormat::Pickle.into(),
                method_name: (!target.method.is_empty()).then(|| target.method.clone()),
                ..FunctionInput::default()
            },
            attempt: 0,
            retries_here: true,
            lost: 0,
            is_web: true,
        };
        let submitted = ctx.functions.submit(ctx, Arc::new(input)).await;
        if submitted.is_err() {
            ctx.functions.exchanges.forget(&exchange.call);
        }
        submitted?;
        let (owner, ended) = (ctx.clone(), Arc::clone(&exchange));
        tokio::spawn(async move {
            ended.ended().await;
            owner.functions.exchanges.forget(&ended.call);
        });
        let gone = Some(Message::HttpDisconnect(HttpDisconnect {}));
        Ok(Self { ctx: ctx.clone(), target: Arc::clone(target), exchange, gone })
    }

    /// What the program is told if the client goes away.
    pub(super) fn on_leaving(&mut self, message: Message) {
        self.gone = Some(message);
    }

    /// The answer is complete: nobody needs to be told.
    pub(super) fn complete(&mut self) {
        self.gone = None;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(message) = self.gone.take() else { return };
        let (ctx, exchange) = (self.ctx.clone(), Arc::clone(&self.exchange));
        let pool = ctx.functions.find_pool(&self.target.function);
        tokio::spawn(async move {
            let waiting = pool.map(|pool| pool.withdraw(&exchange.call)).unwrap_or_default();
            if !waiting.is_empty() {
                let result = crate::function::outcome::cancelled();
                return crate::function::outcome::give_up(&ctx, waiting, &result).await;
            }
            exchange.abandon().await;
            exchange.send(message).await;
        });
    }
}

/// Waits for the beginning of the answer; sends the client elsewhere if that takes too long.
async fn respond(mut visit: Visit, target: &Target, uri: &http::Uri) -> Response {
    let limit = target.ctx.config.web_redirect;
    let first = tokio::time::timeout(limit, visit.exchange.receive()).await;
    match first {
        Err(_) => {
            let location = resume_at(uri, &visit.exchange.call);
            target.ctx.web.park(&target.ctx, &target.function, visit, RESUME_WITHIN);
            (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
        }
        Ok(Some(Message::HttpResponseStart(start))) => stream(visit, start),
        Ok(other) => {
            let ended = other.is_none();
            visit.complete();
            if ended {
                failure(&visit.exchange)
            } else {
                plain(StatusCode::BAD_GATEWAY, "the function answered out of order")
            }
        }
    }
}

fn stream(visit: Visit, start: HttpResponseStart) -> Response {
    let status = u16::try_from(start.status).ok().and_then(|it| StatusCode::from_u16(it).ok());
    let mut response = Response::new(Body::from_stream(body_of(visit)));
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    for pair in start.headers.chunks_exact(2) {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&pair[0]), HeaderValue::from_bytes(&pair[1]))
        else {
            continue;
        };
        if !HOP_BY_HOP.contains(&name) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn body_of(visit: Visit) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send {
    futures::stream::unfold(Some(visit), |visit| async move {
        let mut visit = visit?;
        loop {
            match visit.exchange.receive().await {
                Some(Message::HttpResponseBody(body)) => {
                    let data = Bytes::from(body.body);
                    if !body.more_body {
                        visit.complete();
                        return (!data.is_empty()).then_some((Ok(data), None));
                    }
                    if !data.is_empty() {
                        return Some((Ok(data), Some(visit)));
                    }
                }
                // Trailers are not passed on: few clients of HTTP/1.1 read them.
                Some(_) => {}
                None => {
                    visit.complete();
                    let error =
                        std::io::Error::other("the function ended in the middle of its answer");
                    return Some((Err(error), None));
                }
            }
        }
    })
}

/// What a request is answered whose function ended without an answer.
fn failure(exchange: &Exchange) -> Response {
    let result = exchange.result().unwrap_or_default();
    let code = match result.status() {
        GenericStatus::Timeout => StatusCode::GATEWAY_TIMEOUT,
        GenericStatus::Terminated => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let text = match result.exception.as_str() {
        "" => "the function ended without an answer",
        text => text,
    };
    plain(code, text)
}

/// Passes the body on, piece by piece.
async fn send_body(exchange: Arc<Exchange>, body: Body) {
    let message = |body: Bytes, more_body| {
        Message::HttpRequest(HttpRequest { body: body.to_vec(), more_body })
    };
    let mut pieces = std::pin::pin!(body.into_data_stream().peekable());
    if tokio::time::timeout(FIRST_BODY, pieces.as_mut().peek()).await.is_err() {
        exchange.send(message(Bytes::new(), true)).await;
    }
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => exchange.send(message(piece, true)).await,
            Err(_) => return exchange.send(Message::HttpDisconnect(HttpDisconnect {})).await,
        }
    }
    exchange.send(message(Bytes::new(), false)).await;
}

/// A page in a browser may not reach in here, whatever name it gives this machine.
fn refuse_strangers(request: &Request) -> Option<Response> {
    if !crate::server::names_this_machine(request) {
        return Some(plain(StatusCode::MISDIRECTED_REQUEST, "unknown host name"));
    }
    let origin = request.headers().get(header::ORIGIN)?.to_str().unwrap_or_default();
    let host = url::Url::parse(origin).ok().and_then(|url| url.host_str().map(str::to_owned));
    let is_own = host.is_some_and(|host| crate::server::OWN_NAMES.contains(&host.as_str()));
    (!is_own).then(|| plain(StatusCode::FORBIDDEN, "requests of other sites are not answered"))
}

/// Functions that ask for proxy authentication take this server's token, and proxy tokens of their environment.
async fn check_proxy_auth(
    target: &Target,
    spec: &FunctionSpec,
    headers: &HeaderMap,
) -> Option<Response> {
    let config = match target.method.as_str() {
        "" => spec.function.webhook_config.as_ref(),
        method => spec.function.method_definitions.get(method)?.webhook_config.as_ref(),
    };
    if !config?.requires_proxy_auth {
        return None;
    }
    credentials::check(&target.ctx, &spec.app, headers).await
}

fn resumed(request: &Request) -> Option<CallId> {
    if request.method() != Method::GET {
        return None;
    }
    let query = request.uri().query()?.as_bytes();
    let (_, call) = url::form_urlencoded::parse(query).find(|(name, _)| name == RESUME)?;
    CallId::parse(&call).ok()
}

fn resume_at(uri: &http::Uri, call: &CallId) -> String {
    let query = uri.query().unwrap_or_default().as_bytes();
    let kept = url::form_urlencoded::parse(query).filter(|(name, _)| name != RESUME);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(kept).append_pair(RESUME, call.as_str());
    format!("{}?{}", uri.path(), query.finish())
}

/// The scope of a request, as the ASGI specification has it.
fn http_scope(parts: &Parts, client: SocketAddr, port: u16) -> Value {
    let mut scope = common_scope("http", "http", parts, client, port);
    scope.push(("method", Value::Text(parts.method.to_string())));
    let trailers = Value::Dict(vec![("http.response.trailers", Value::Dict(Vec::new()))]);
    scope.push(("extensions", trailers));
    Value::Dict(scope)
}

/// What the scopes of requests and of WebSockets share.
pub(super) fn common_scope(
    kind: &str,
    scheme: &str,
    parts: &Parts,
    client: SocketAddr,
    port: u16,
) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let raw = parts.uri.path();
    let path = percent_decoded(raw);
    let headers =
        parts.headers.iter().filter(|(name, value)| !credentials::is_credential(name, value));
    let headers = headers.map(|(name, value)| {
        let pair = [name.as_str().as_bytes(), value.as_bytes()];
        Value::Tuple(pair.map(|bytes| Value::Bytes(bytes.to_vec())).into())
    });
    let version = if parts.version == http::Version::HTTP_2 { "2" } else { "1.1" };
    let address =
        |host: String, port: u16| Value::Tuple(vec![Value::Text(host), Value::Number(port.into())]);
    vec![
        ("type", text(kind)),
        ("asgi", Value::Dict(vec![("version", text("3.0")), ("spec_version", text("2.3"))])),
        ("http_version", text(version)),
        ("scheme", text(scheme)),
        ("path", Value::Text(path)),
        ("raw_path", Value::Bytes(raw.as_bytes().to_vec())),
        ("root_path", text("")),
        ("query_string", Value::Bytes(parts.uri.query().unwrap_or_default().as_bytes().to_vec())),
        ("headers", Value::List(headers.collect())),
        ("client", address(client.ip().to_string(), client.port())),
        ("server", address("127.0.0.1".to_owned(), port)),
    ]
}

/// A path as its characters.
fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer of this server's own, said to be one as Modal's are.
pub(super) fn plain(code: StatusCode, text: &str) -> Response {
    (code, format!("modal-http: {text}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use modal_proto::client::Asgi;
    use modal_proto::client::asgi::HttpResponseBody;

    use super::*;
    use crate::ids::FunctionId;
    use crate::server::ServerConfig;
    use crate::state_dir::StateDir;

    async fn target(redirect: Duration) -> (Arc<Target>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(StateDir::new(dir.path()));
        config.web_redirect = redirect;
        let ctx = Ctx::open(config, "http://127.0.0.1:1".to_owned()).await.unwrap();
        let function = FunctionId::random();
        (Arc::new(Target { ctx, function, method: String::new(), port: 1 }), dir)
    }

    fn visit(target: &Arc<Target>) -> Visit {
        let exchange = target.ctx.functions.exchanges.begin();
        Visit { ctx: target.ctx.clone(), target: Arc::clone(target), exchange, gone: None }
    }

    async fn say(exchange: &Exchange, index: u64, message: Message) {
        exchange.put(index, Asgi { r#type: Some(message) }).await;
    }

    #[tokio::test]
    async fn a_slow_answer_is_fetched_elsewhere() {
        let (target, _dir) = target(Duration::from_millis(20)).await;
        let visit = visit(&target);
        let exchange = Arc::clone(&visit.exchange);
        let uri: http::Uri = "/slow?a=1".parse().unwrap();
        let away = respond(visit, &target, &uri).await;
        assert_eq!(away.status(), StatusCode::SEE_OTHER);
        let location = away.headers()[header::LOCATION].to_str().unwrap().to_owned();
        let back = Request::builder().uri(location).body(Body::empty()).unwrap();
        let call = resumed(&back).unwrap();
        assert!(target.ctx.web.unpark(&call, &FunctionId::random()).is_none(), "not another's");
        let start = HttpResponseStart { status: 202, ..Default::default() };
        say(&exchange, 1, Message::HttpResponseStart(start.clone())).await;
        say(&exchange, 1, Message::HttpResponseStart(start)).await;
        let body = HttpResponseBody { body: b"done".to_vec(), more_body: false };
        say(&exchange, 2, Message::HttpResponseBody(body)).await;
        let visit = target.ctx.web.unpark(&call, &target.function).unwrap();
        let answer = respond(visit, &target, back.uri()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(&body[..], b"done");
        assert!(target.ctx.web.unpark(&call, &target.function).is_none(), "once");
    }

    #[tokio::test]
    async fn a_function_that_ends_without_an_answer_is_an_error_of_the_server() {
        let (target, _dir) = target(Duration::from_secs(60)).await;
        for (status, code) in [
            (GenericStatus::Timeout, StatusCode::GATEWAY_TIMEOUT),
            (GenericStatus::Failure, StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            let visit = visit(&target);
            let result = crate::function::outcome::result(status, "why");
            target.ctx.functions.exchanges.finish(&visit.exchange.call, result);
            let answer = respond(visit, &target, &"/".parse().unwrap()).await;
            assert_eq!(answer.status(), code);
        }
    }

    #[test]
    fn a_client_that_is_sent_away_comes_back_to_the_same_call() {
        let call = CallId::random();
        let uri: http::Uri = format!("/slow?a=1&{RESUME}=fc-old&b=%20").parse().unwrap();
        let location = resume_at(&uri, &call);
        assert_eq!(location, format!("/slow?a=1&b=+&{RESUME}={call}"));
        let request = Request::builder().uri(location).body(Body::empty()).unwrap();
        assert_eq!(resumed(&request), Some(call));
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(percent_decoded("/a%20b/%C3%BC/100%"), "/a b/ü/100%");
    }

    #[test]
    fn other_sites_and_other_names_are_turned_away() {
        let request = |host: &str, origin: Option<&str>| {
            let mut request = Request::builder().uri("/").header("host", host);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            request.body(Body::empty()).unwrap()
        };
        assert!(refuse_strangers(&request("127.0.0.1:80", None)).is_none());
        assert!(refuse_strangers(&request("localhost", Some("http://localhost:3000"))).is_none());
        assert!(refuse_strangers(&request("evil.example", None)).is_some());
        assert!(refuse_strangers(&request("127.0.0.1", Some("https://evil.example"))).is_some());
        assert!(refuse_strangers(&request("127.0.0.1", Some("null"))).is_some());
    }
}
