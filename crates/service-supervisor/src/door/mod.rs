//! The only port that the outside reaches: lets listed requests pass, with a key, within limits.
//!
//! A request passes if its path and method are listed and it shows a key that the route asks for. It is
//! handed on as it came, less what belongs to this connection alone; the answer's pieces are passed on as
//! they arrive. Nothing of a request is ever written to the log but its method and path.

mod answer;
mod body;
mod budgets;
mod credentials;
mod forward;
mod keys;
mod own;
pub(crate) mod path;
mod routes;
mod tasks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::budgets::{Budgets, Metered, as_final};
use self::forward::Forward;
use self::keys::Keys;
use self::routes::Routes;
use crate::calls::{self, Calls};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::plan::DoorSpec;

/// A request's head must be here within that time.
const HEAD: Duration = Duration::from_secs(30);
/// The header of every answer that names this life of the door: a client can tell whether what it gave is still there.
pub const LIFE: &str = "x-goat-life";
/// LiteLLM's header on answers of calls, which become traces.
const CALL_ID: &str = "x-litellm-call-id";
/// Between two tries to accept when the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A door that is not open yet.
pub(crate) struct Door {
    spec: DoorSpec,
    shared: Arc<Shared>,
}

/// What all requests need.
struct Shared {
    routes: Routes,
    keys: Keys,
    budgets: Option<Budgets>,
    calls: Option<Arc<Calls>>,
    forward: Forward,
    room: Arc<Semaphore>,
    log: Log,
    name: String,
    life: HeaderValue,
}

/// A door that listens.
pub(crate) struct OpenDoor {
    drain: CancellationToken,
    limit: Duration,
    serving: JoinHandle<()>,
}

impl Door {
    /// Reads its keys; a key that is missing is an error now, not a door that nobody can pass.
    pub(crate) fn new(
        spec: &DoorSpec,
        environment: &Environment,
        calls: Option<Arc<Calls>>,
        log: Log,
    ) -> Result<Self> {
        let spent = spec.task_keys.as_ref().and_then(|keys| keys.spent.as_deref());
        let fail = |path: &std::path::Path, source| Error::Budgets {
            door: spec.name.clone(),
            path: path.to_owned(),
            source,
        };
        let open = |path| Budgets::open(path, log.clone()).map_err(|source| fail(path, source));
        let budgets = spent.map(open).transpose()?;
        let shared = Shared {
            budgets,
            calls,
            routes: Routes::new(&spec.routes),
            keys: Keys::read(spec, environment)?,
            forward: Forward::new(spec.upstream, &spec.limits),
            room: Arc::new(Semaphore::new(spec.limits.concurrent)),
            log,
            name: spec.name.clone(),
            life: HeaderValue::from(rand::random::<u64>()),
        };
        Ok(Self { spec: spec.clone(), shared: Arc::new(shared) })
    }

    /// Begins to listen.
    pub(crate) async fn open(self) -> Result<OpenDoor> {
        let Self { spec, shared } = self;
        let fail = |source| Error::Listen { door: spec.name.clone(), port: spec.port, source };
        let address = SocketAddr::new(spec.listen, spec.port);
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        shared.log.say(format!("{} is open at {address}", spec.name));
        let drain = CancellationToken::new();
        let serving = serve(listener, shared, drain.clone(), spec.limits.drain);
        Ok(OpenDoor { drain, limit: spec.limits.drain, serving: tokio::spawn(serving) })
    }
}

impl OpenDoor {
    /// Takes no more requests and waits for those under way; not at all where their service is gone.
    pub(crate) async fn drain(mut self, wait: bool) {
        self.drain.cancel();
        let limit = if wait { self.limit } else { Duration::ZERO };
        if tokio::time::timeout(limit, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    drain: CancellationToken,
    limit: Duration,
) {
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connection(stream, &shared, &connections),
            Err(error) => {
                shared.log.say(format!("{}: can't accept a connection: {error}", shared.name));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(limit, connections.shutdown()).await.is_err() {
        shared.log.say(format!("{}: requests under way were cut off", shared.name));
    }
}

fn connection(stream: TcpStream, shared: &Arc<Shared>, connections: &GracefulShutdown) {
    // Pieces of an answer are small, and wanted at once.
    let _ = stream.set_nodelay(true);
    let shared = Arc::clone(shared);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let mut answer = shared.handle(request).await;
            answer.headers_mut().insert(LIFE, shared.life.clone());
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let watched = connections.watch(connection);
    tokio::spawn(async move {
        // The other end is gone, or spoke no HTTP.
        let _ = watched.await;
    });
}

impl Shared {
    /// Names a call whose trace is to be seen; a name that the caller gave is none.
    fn name_call(&self, request: &mut http::Request<hyper::body::Incoming>) -> Option<String> {
        request.headers_mut().remove(calls::HEADER);
        let calls = self.calls.as_ref().filter(|_| request.method() == http::Method::POST)?;
        let name = calls.name();
        request.headers_mut().insert(calls::HEADER, HeaderValue::from_str(&name).ok()?);
        Some(name)
    }

    /// Notes that a call is answered as soon as it is, if it is one that the proxy traces.
    fn watch(&self, answer: answer::Answer, call: Option<String>) -> answer::Answer {
        let is_call = answer.status().is_success() && answer.headers().contains_key(CALL_ID);
        let (Some(calls), Some(call), true) = (self.calls.clone(), call, is_call) else {
            return answer;
        };
        let log = self.log.clone();
        let noted = move |_: &[u8], is_whole| {
            if is_whole && let Err(error) = calls.answered(&call) {
                log.say(format!("an answered call can't be noted: {error}"));
            }
        };
        answer.map(|body| Metered::new(body, Box::new(noted)).boxed_unsync())
    }

    async fn handle(&self, mut request: http::Request<hyper::body::Incoming>) -> answer::Answer {
        let Some(path) = path::Path::parse(request.uri().path()) else {
            return answer::refuse(
                http::StatusCode::BAD_REQUEST,
                "the path is not one that passes",
            );
        };
        if own::is_own(&path) && self.keys.tasks().is_some() {
            return self.own(request).await;
        }
        let passage = match self.routes.passage(request.method(), &path) {
            Ok(passage) => passage,
            Err(refusal) => return refusal.answer(),
        };
        let shown = credentials::of(request.headers());
        let claims = match self.keys.allow(passage.access, shown) {
            Ok(claims) => claims,
            Err(refusal) => return refusal.answer(),
        };
        let account = self.budgets.as_ref().zip(claims);
        if let Some((budgets, claims)) = &account
            && let Some(spent) = budgets.overdrawn(claims)
        {
            return answer::overdrawn(spent, claims.budget_usd);
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return answer::busy();
        };
        let (method, shown) = (request.method().clone(), path.to_string());
        let call = self.name_call(&mut request);
        match self.forward.pass(request, passage.upstream).await {
            Ok(answer) => {
                let answer = match &account {
                    Some(_) => as_final(answer).await,
                    None => answer,
                };
                let answer = self.watch(body::while_it_lasts(answer, room), call);
                match account {
                    // Reading is free.
                    Some((budgets, claims)) if method != http::Method::GET => {
                        budgets.meter(answer, claims)
                    }
                    _ => answer,
                }
            }
            Err(error) => {
                self.log.say(format!("{}: {method} {shown}: {error}", self.name));
                error.answer()
            }
        }
    }
}
