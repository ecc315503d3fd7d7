//! The command router: the server beside a sandbox that runs commands and carries their bytes.
//!
//! Access to it is a short-lived JWT. It comes with a new sandbox and is fetched again when the router
//! no longer takes it.

mod lines;
mod logs_v1;
mod output;
mod stdin;

use secret_string::SecretString;
use std::{sync::Arc, time::Duration};

pub use lines::OutputLines;
use modal_proto::client as api;
pub use output::OutputStream;
pub(crate) use output::{Descriptor, Feed};
use prost::Message;
pub use stdin::StdinWriter;
pub(crate) use stdin::{Target, resume, send_all};
use tokio::sync::{Mutex, OnceCell};
use tonic::{Status, metadata::MetadataMap};

use crate::{
    auth,
    client::Client,
    clock,
    error::{Error, Operation, Result},
    ids::{SandboxId, TaskId},
    retry::RetryPolicy,
    rpc::{Answers, CallOptions, Failure, Headers, Method, Wire, metadata, methods},
    sandbox::SandboxVersion,
    transport::Lease,
};

/// A JWT that is refused although it ends later than this from now is not fetched again: another one
/// would be refused too.
const LEFT_WHEN_STALE: f64 = 30.0;
/// How often a sandbox that is being scheduled is asked for its task.
const TASK_POLL: Duration = Duration::from_millis(500);
/// A sandbox that is not scheduled after this long is given up.
const TASK_LIMIT: Duration = Duration::from_secs(21 * 60);

/// The way to one sandbox's router. Clones share connection and access.
#[derive(Clone)]
pub(crate) struct Router(Arc<Shared>);

struct Shared {
    client: Client,
    sandbox: SandboxId,
    sandbox_token: Option<SecretString>,
    task: OnceCell<TaskId>,
    link: Mutex<Option<Link>>,
}

/// A connection and the access to use it with.
#[derive(Clone)]
struct Link {
    lease: Lease,
    jwt: SecretString,
}

/// Why something of the router failed: what the router said, or that there was no way to it.
pub(crate) enum RouterFailure {
    Status(Failure),
    NoWay(Error),
}

impl RouterFailure {
    pub(crate) fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Status(failure) => Some(failure.status.code()),
            Self::NoWay(_) => None,
        }
    }

    pub(crate) fn into_error(self, rpc: &'static str, operation: Operation) -> Error {
        match self {
            Self::Status(failure) => failure.into_error(rpc, operation),
            Self::NoWay(error) => error,
        }
    }
}

impl Router {
    pub(crate) fn new(
        client: Client,
        sandbox: SandboxId,
        task: Option<TaskId>,
        sandbox_token: Option<SecretString>,
    ) -> Self {
        let task = OnceCell::new_with(task);
        Self(Arc::new(Shared { client, sandbox, sandbox_token, task, link: Mutex::default() }))
    }

    /// Uses the access that came with the sandbox: good for the first connection.
    pub(crate) async fn offer(&self, access: api::CommandRouterAccess) -> Result<()> {
        let link = self.connect(&access.url, access.jwt)?;
        *self.0.link.lock().await = Some(link);
        Ok(())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn version(&self) -> SandboxVersion {
        SandboxVersion::of(&self.0.sandbox)
    }

    pub(crate) fn sandbox(&self) -> &SandboxId {
        &self.0.sandbox
    }

    /// What each call about the sandbox carries besides the usual.
    pub(crate) fn add_sandbox_token(&self, metadata: &mut MetadataMap) -> Result<()> {
        if let Some(token) = &self.0.sandbox_token {
            metadata.insert(
                "x-modal-sandbox-token",
                metadata::secret("sandbox token", token.expose())?,
            );
        }
        Ok(())
    }

    /// The task that runs the sandbox, waited for where the sandbox is not scheduled yet.
    pub(crate) async fn task(&self) -> Result<&TaskId> {
        self.0.task.get_or_try_init(|| self.fetch_task()).await
    }

    async fn fetch_task(&self) -> Result<TaskId> {
        let operation =
            || Operation::new("find the task of", format!("sandbox `{}`", self.0.sandbox));
        let query = api::SandboxGetTaskIdRequest {
            sandbox_id: self.0.sandbox.to_string(),
            ..Default::default()
        };
        let (v1, v2) = (&methods::SANDBOX_GET_TASK_ID, &methods::SANDBOX_GET_TASK_ID_V2);
        let method = self.version().choose(v1, v2);
        let found = async {
            loop {
                let mut options = self.0.client.options(method, operation()).await?;
                self.add_sandbox_token(&mut options.metadata)?;
                let answer = self.0.client.call_with(method, &query, options).await?;
                if let Some(task) = answer.task_id.filter(|task| !task.is_empty()) {
                    return TaskId::try_from(task).map_err(|error| Error::Protocol {
                        operation: operation(),
                        source: error.into(),
                    });
                }
                if answer.task_result.is_some() {
                    return Err(self.gone(operation(), "it ended before it was scheduled".into()));
                }
                tokio::time::sleep(TASK_POLL).await;
            }
        };
        match tokio::time::timeout(TASK_LIMIT, found).await {
            Ok(found) => found,
            Err(_) => Err(Error::deadline(
                operation(),
                format!("it was not scheduled within {TASK_LIMIT:?}"),
            )),
        }
    }

    /// Whether the sandbox says that it has ended. One RPC; where that fails, it counts as running.
    pub(crate) async fn has_ended(&self) -> bool {
        let operation = Operation::new("look at", format!("sandbox `{}`", self.0.sandbox));
        let query =
            api::SandboxWaitRequest { sandbox_id: self.0.sandbox.to_string(), timeout: 0.0 };
        let method = self.version().choose(&methods::SANDBOX_WAIT, &methods::SANDBOX_WAIT_V2);
        let answer = self.0.client.call(method, &query, operation).await;
        let result = answer.ok().and_then(|answer| answer.result);
        result.is_some_and(|result| {
            result.status() != api::generic_result::GenericStatus::Unspecified
        })
    }

    pub(crate) fn gone(&self, operation: Operation, source: crate::error::BoxError) -> Error {
        Error::SandboxGone { operation, sandbox: self.0.sandbox.clone(), source }
    }

    /// Sends a unary call, with new access if the old one ended.
    pub(crate) async fn unary<Q, A>(
        &self,
        method: &Method<Q, A>,
        query: &Q,
        operation: &Operation,
        deadline: Option<Duration>,
    ) -> Result<A, RouterFailure>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut link = self.link(operation).await.map_err(RouterFailure::NoWay)?;
        let mut renewed = false;
        loop {
            let options = CallOptions {
                operation: operation.clone(),
                policy: RetryPolicy::ROUTER,
                headers: Headers::Router,
                deadline,
                metadata: bearer(&link.jwt).map_err(RouterFailure::NoWay)?,
                retries_deadline: !method.is_poll(),
            };
            let wire = self.wire(&link).await.map_err(RouterFailure::NoWay)?;
            match wire.unary(method, query, &options).await {
                Ok(answer) => return Ok(answer),
                Err(failure)
                    if !renewed && failure.status.code() == tonic::Code::Unauthenticated =>
                {
                    renewed = true;
                    let renewal =
                        self.renew(&link.jwt, operation).await.map_err(RouterFailure::NoWay)?;
                    link = renewal.ok_or(RouterFailure::Status(failure))?;
                }
                Err(failure) => return Err(RouterFailure::Status(failure)),
            }
        }
    }

    /// Opens a stream once; a status that asks for new access has got it when this returns, so that the
    /// caller's next attempt uses it.
    pub(crate) async fn stream<Q, A>(
        &self,
        method: &Method<Q, A>,
        query: Q,
        operation: &Operation,
    ) -> Result<Answers<A>, StreamFailure>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let link = self.link(operation).await.map_err(StreamFailure::Final)?;
        let metadata = bearer(&link.jwt).map_err(StreamFailure::Final)?;
        let wire = self.wire(&link).await.map_err(StreamFailure::Final)?;
        match wire.stream(method, query, metadata, None).await {
            Ok(stream) => Ok(stream),
            Err(status) => {
                Err(self.stream_failure(status, &link.jwt, method.name, operation).await)
            }
        }
    }

    /// Sends a stream of messages once; failures as in [`Self::stream`].
    pub(crate) async fn upload<Q, A>(
        &self,
        method: &Method<Q, A>,
        queries: impl futures::Stream<Item = Q> + Send + 'static,
        operation: &Operation,
    ) -> Result<A, StreamFailure>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let link = self.link(operation).await.map_err(StreamFailure::Final)?;
        let metadata = bearer(&link.jwt).map_err(StreamFailure::Final)?;
        let wire = self.wire(&link).await.map_err(StreamFailure::Final)?;
        match wire.upload(method, queries, metadata).await {
            Ok(answer) => Ok(answer),
            Err(status) => {
                Err(self.stream_failure(status, &link.jwt, method.name, operation).await)
            }
        }
    }

    /// Whether a stream that ended with `status` can be opened again.
    pub(crate) async fn stream_failure(
        &self,
        status: Status,
        jwt: &SecretString,
        rpc: &'static str,
        operation: &Operation,
    ) -> StreamFailure {
        let error =
            |status: Status| Failure { status, attempts: 1 }.into_error(rpc, operation.clone());
        if status.code() == tonic::Code::Unauthenticated {
            return match self.renew(jwt, operation).await {
                Ok(Some(_)) => StreamFailure::Again(error(status)),
                Ok(None) => StreamFailure::Final(error(status)),
                Err(error) => StreamFailure::Final(error),
            };
        }
        if let Some(wait) = crate::retry::retry_after(&status) {
            // The server is busy: it says when to come back.
            tokio::time::sleep(wait).await;
            return StreamFailure::Again(error(status));
        }
        if crate::retry::is_transient(status.code()) {
            StreamFailure::Again(error(status))
        } else {
            StreamFailure::Final(error(status))
        }
    }

    /// The JWT in use, for [`Self::stream_failure`] of a stream that broke later.
    pub(crate) async fn jwt(&self) -> SecretString {
        self.0
            .link
            .lock()
            .await
            .as_ref()
            .map_or_else(|| SecretString::from(""), |link| link.jwt.clone())
    }

    /// The way to the router, which is waited for where it is new.
    async fn wire(&self, link: &Link) -> Result<Wire> {
        let shared = &self.0.client.shared;
        let service = match shared.stack.in_process() {
            Some(service) => service,
            None => shared.stack.connected(link.lease.channel().await?),
        };
        Ok(Wire { service, ..shared.wire.clone() })
    }

    async fn link(&self, operation: &Operation) -> Result<Link> {
        let mut slot = self.0.link.lock().await;
        match &*slot {
            Some(link) => Ok(link.clone()),
            None => Ok(slot.insert(self.fetch(operation).await?).clone()),
        }
    }

    /// New access after `refused` was refused; `None` if that one should have been good.
    async fn renew(&self, refused: &SecretString, operation: &Operation) -> Result<Option<Link>> {
        let mut slot = self.0.link.lock().await;
        if let Some(link) = &*slot
            && link.jwt != *refused
        {
            return Ok(Some(link.clone()));
        }
        if auth::expiry(refused.expose())
            .is_some_and(|end| end > clock::unix_seconds() + LEFT_WHEN_STALE)
        {
            return Ok(None);
        }
        Ok(Some(slot.insert(self.fetch(operation).await?).clone()))
    }

    async fn fetch(&self, operation: &Operation) -> Result<Link> {
        if self.version() == SandboxVersion::V1 {
            return self.fetch_v1(operation).await;
        }
        let method = &methods::SANDBOX_GET_COMMAND_ROUTER_ACCESS;
        let target = api::sandbox_get_command_router_access_request::Target::SandboxId(
            self.0.sandbox.to_string(),
        );
        let query = api::SandboxGetCommandRouterAccessRequest { target: Some(target) };
        let mut options = self.0.client.options(method, operation.clone()).await?;
        self.add_sandbox_token(&mut options.metadata)?;
        match self.0.client.call_with(method, &query, options).await {
            Ok(answer) => self.connect(&answer.url, answer.jwt),
            Err(Error::Conflict { operation, source } | Error::NotFound { operation, source }) => {
                Err(self.gone(operation, source))
            }
            Err(error) => Err(error),
        }
    }

    /// Access to the task that runs a sandbox of version 1.
    async fn fetch_v1(&self, operation: &Operation) -> Result<Link> {
        let query =
            api::TaskGetCommandRouterAccessRequest { task_id: self.task().await?.to_string() };
        let method = &methods::TASK_GET_COMMAND_ROUTER_ACCESS;
        match self.0.client.call(method, &query, operation.clone()).await {
            Ok(answer) => self.connect(&answer.url, answer.jwt),
            Err(Error::Conflict { operation, source } | Error::NotFound { operation, source }) => {
                Err(self.gone(operation, source))
            }
            Err(error) => Err(error),
        }
    }

    fn connect(&self, url: &str, jwt: String) -> Result<Link> {
        let lease = self.0.client.shared.routers.lease(url)?;
        Ok(Link { lease, jwt: jwt.into() })
    }
}

/// Why a stream ended: it may be opened again where it broke, or it is over.
pub(crate) enum StreamFailure {
    Again(Error),
    Final(Error),
}

fn bearer(jwt: &SecretString) -> Result<MetadataMap> {
    let mut map = MetadataMap::new();
    let value = zeroize::Zeroizing::new(format!("Bearer {}", jwt.expose()));
    map.insert("authorization", metadata::secret("command router access", &value)?);
    map.insert("x-throttle-retry-attempt", tonic::metadata::MetadataValue::from_static("0"));
    Ok(map)
}
