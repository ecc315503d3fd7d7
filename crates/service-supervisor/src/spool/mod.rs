//! Traces on their way to Langfuse: taken at once, kept on disk, handed on in order. By whichever API LiteLLM's
//! version sends them, by that they go on: events of the ingestion API, or spans of OTLP.
//!
//! LiteLLM's callback keeps its traces in memory and gives up after a few tries: with Langfuse down for a
//! minute they are lost. So it posts to this address on loopback instead, which answers as soon as an event
//! is on disk, and hands it on as soon as Langfuse takes it, however long that is. An event that came before
//! is not taken again. The disk is bounded: what has no room is refused and counted, and the counts can be
//! asked for.

mod count;
mod forwarder;
mod outbox;
mod parcel;
mod server;
mod store;

use std::net::Ipv4Addr;
use std::sync::Arc;

use langfuse_client::{Client, Config, RetryPolicy, SecretKey};
use secret_string::SecretString;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::forwarder::Forwarder;
use self::store::Store;
pub use self::store::StoreError;
use crate::calls::Calls;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::plan::SpoolSpec;

/// A spool that is not running yet.
pub(crate) struct Spool {
    spec: SpoolSpec,
    client: Client,
    keys: ProjectKeys,
    calls: Arc<Calls>,
    log: Log,
}

/// What a sender must show: the project's own keys, as it would show them to Langfuse.
pub(crate) struct ProjectKeys {
    public: SecretString,
    secret: SecretString,
}

/// A spool that takes events and hands them on.
pub(crate) struct RunningSpool {
    name: String,
    store: Arc<Store>,
    stop: CancellationToken,
    limit: std::time::Duration,
    serving: JoinHandle<()>,
    forwarding: JoinHandle<()>,
    log: Log,
}

impl Spool {
    pub(crate) fn new(spec: &SpoolSpec, environment: &Environment, log: Log) -> Result<Self> {
        let wanted_by = format!("spool `{}`", spec.name);
        let need = |name: &str| environment.need(name, &wanted_by).cloned();
        let keys = ProjectKeys { public: need(&spec.public_key)?, secret: need(&spec.secret_key)? };
        let url = need(&spec.url)?;
        let fail =
            |source| Error::SpoolTarget { spool: spec.name.clone(), source: Box::new(source) };
        let secret = SecretKey::new(keys.secret.expose().to_owned());
        let config = Config::new(url.expose(), keys.public.expose(), secret).map_err(fail)?;
        // The spool itself is patient.
        let client = Client::new(config.with_retry(RetryPolicy::never())).map_err(fail)?;
        let directory = spec.kept.as_ref().unwrap_or(&spec.directory).join("calls");
        let calls = Calls::open(&directory).map_err(|source| Error::Spool {
            spool: spec.name.clone(),
            source: StoreError::Directory(directory, source),
        })?;
        Ok(Self { spec: spec.clone(), client, keys, calls: Arc::new(calls), log })
    }

    /// The calls whose traces it gets.
    pub(crate) fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// Opens the database, with what an earlier process left in it, and begins to listen.
    pub(crate) async fn start(self) -> Result<RunningSpool> {
        let Self { spec, client, keys, calls, log } = self;
        let broken = |source| Error::Spool { spool: spec.name.clone(), source };
        let mut store = Store::open(&spec.directory, spec.max_bytes).await.map_err(broken)?;
        if let Some(directory) = &spec.kept {
            for unreadable in store.keep_in(directory).await.map_err(broken)? {
                log.say(format!("{}: events can't be read: {unreadable}", spec.name));
            }
        }
        let store = Arc::new(store);
        let waiting = store.waiting().await.map_err(broken)?;
        let fail = |source| Error::Listen { door: spec.name.clone(), port: spec.port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, spec.port)).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        log.say(format!("{} takes traces at {address}, {waiting} events wait", spec.name));
        let (stop, news) = (CancellationToken::new(), Arc::new(Notify::new()));
        let router = server::router(Arc::clone(&store), keys, calls, Arc::clone(&news));
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            // Fails only if the listener does, which axum itself tries again.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        });
        let (name, limit) = (spec.name.clone(), spec.drain);
        let forwarder = Forwarder {
            client,
            store: Arc::clone(&store),
            news,
            keep: spec.again_within,
            name: name.clone(),
            log: log.clone(),
        };
        let forwarding = tokio::spawn(forwarder.run(stop.clone()));
        Ok(RunningSpool { name, store, stop, limit, serving, forwarding, log })
    }
}

impl RunningSpool {
    /// Takes no more and hands on what there is, for a while. The rest stays on disk.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let both = async {
            let _ = tokio::join!(&mut self.serving, &mut self.forwarding);
        };
        if tokio::time::timeout(self.limit, both).await.is_err() {
            self.serving.abort();
            self.forwarding.abort();
        }
        match self.store.waiting().await {
            Ok(0) => {}
            Ok(left) => self.log.say(format!("{}: {left} events stay on disk", self.name)),
            Err(error) => self.log.say(format!("{}: {error}", self.name)),
        }
    }
}
