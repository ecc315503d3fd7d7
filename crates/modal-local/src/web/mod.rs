//! HTTP requests to functions: each web function has a port of this machine's loopback.
//!
//! On Modal a web function has a name on the internet and TLS. Here its URL is
//! `http://127.0.0.1:PORT`: a port of its own, so that two functions share neither cookies nor
//! origins. The port is kept as long as the app is deployed, over restarts of the server, and
//! given back to a function of the same name when the app is deployed anew.

mod credentials;
mod endpoint;
mod front;
mod parameters;
mod pickle;
mod ports;
pub(crate) mod requests;
mod server;
mod websocket;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::SqlitePool;

use self::endpoint::Endpoint;
use self::front::Visit;
use self::ports::Ports;
use self::requests::RequestLog;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::function::handle::web_methods;
use crate::function::records::FunctionRecord;
use crate::ids::{AppId, CallId, FunctionId};

/// A function, or a method of a class, that requests come to.
type Key = (FunctionId, String);

/// The web functions of this server.
pub(crate) struct WebFronts {
    ports: Ports,
    open: Mutex<HashMap<Key, Endpoint>>,
    /// What servers were asked.
    pub(crate) requests: RequestLog,
    /// Requests whose clients were told to come back for the answer.
    parked: Mutex<HashMap<CallId, (FunctionId, Visit)>>,
    /// Held while a port is chosen.
    choosing: tokio::sync::Mutex<()>,
}

impl WebFronts {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self {
            ports: Ports::new(db),
            open: Mutex::default(),
            requests: RequestLog::default(),
            parked: Mutex::default(),
            choosing: tokio::sync::Mutex::default(),
        }
    }

    /// The URLs of a function: of itself under the empty name, of a class's methods under theirs.
    pub(crate) async fn urls(
        &self,
        ctx: &Ctx,
        record: &FunctionRecord,
    ) -> Result<HashMap<String, String>> {
        let mut urls = HashMap::new();
        for method in web_methods(&record.announced) {
            let url = self.url(ctx, record, &method).await?;
            urls.insert(method, url);
        }
        Ok(urls)
    }

    /// The URL of a server (`@app.server`).
    pub(crate) async fn server_url(&self, ctx: &Ctx, record: &FunctionRecord) -> Result<String> {
        self.url(ctx, record, "").await
    }

    /// Every port that some web function has, whether somebody listens there yet or not.
    pub(crate) async fn ports(&self) -> Result<Vec<u16>> {
        self.ports.all().await
    }

    async fn url(&self, ctx: &Ctx, record: &FunctionRecord, method: &str) -> Result<String> {
        let function = record.base.clone().unwrap_or_else(|| record.id.clone());
        let key = (function, method.to_owned());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        if let Some(endpoint) = self.open().get(&key) {
            return Ok(url(endpoint.port));
        }
        let _one_at_a_time = self.choosing.lock().await;
        if let Some(endpoint) = self.open().get(&key) {
            return Ok(url(endpoint.port));
        }
        if ctx.apps.get(&record.app).await?.is_stopped() {
            return Ok(self.ports.of(&key.0, method).await?.map(url).unwrap_or_default());
        }
        let listener = self.ports.listen(ctx, record, &key.0, method).await?;
        let endpoint = Endpoint::serve(ctx, record.app.clone(), key.0.clone(), method, listener)?;
        let port = endpoint.port;
        self.open().insert(key, endpoint);
        Ok(url(port))
    }

    /// Listens for the web functions of an app's current deployment.
    pub(crate) async fn serve_app(&self, ctx: &Ctx, app: &AppId) -> Result<()> {
        let Some(deployment) = ctx.functions.deployments.current(app).await? else { return Ok(()) };
        for id in deployment.layout.functions.values() {
            let record = ctx.functions.records.get(&FunctionId::parse(id)?).await?;
            self.urls(ctx, &record).await?;
            let Some(definition) = &record.definition else { continue };
            if ctx.functions.records.definition(definition).await?.is_server {
                self.server_url(ctx, &record).await?;
            }
        }
        Ok(())
    }

    /// Listens no more for an app. Requests under way are answered by whoever ends their functions.
    pub(crate) fn close_app(&self, app: &AppId) {
        self.open().retain(|_, endpoint| endpoint.app != *app);
    }

    /// Listens no more for a function that its app no longer has.
    pub(crate) fn close_function(&self, id: &FunctionId) {
        self.open().retain(|(function, _), _| function != id);
    }

    /// Keeps a request until its client comes back, at most this long.
    fn park(&self, ctx: &Ctx, function: &FunctionId, visit: Visit, limit: Duration) {
        let call = visit.exchange.call.clone();
        self.parked().insert(call.clone(), (function.clone(), visit));
        let ctx = ctx.clone();
        tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            ctx.web.parked().remove(&call);
        });
    }

    /// The request that a client comes back for, if it is one of this function.
    fn unpark(&self, call: &CallId, function: &FunctionId) -> Option<Visit> {
        let mut parked = self.parked();
        if parked.get(call).is_none_or(|(owner, _)| owner != function) {
            return None;
        }
        parked.remove(call).map(|(_, visit)| visit)
    }

    fn parked(&self) -> MutexGuard<'_, HashMap<CallId, (FunctionId, Visit)>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens no more at all.
    pub(crate) fn close(&self) {
        self.open().clear();
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, Endpoint>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
