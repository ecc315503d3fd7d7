//! The client: one connection to a control plane, shared by everything made from it.

use std::{collections::HashMap, convert::Infallible, fmt, sync::Arc, time::Duration};

use modal_proto::client as api;
use prost::Message;
use secret_string::SecretString;
use tokio::sync::Mutex;
use tonic::{body::Body, metadata::MetadataMap};
use tower::{Layer, Service};

use crate::{
    auth::{self, AuthToken},
    config::Config,
    error::{BoxError, Error, Operation, Result},
    http::Http,
    retry::RetryPolicy,
    rpc::{CallOptions, Headers, Method, Wire, metadata, methods, warning::Warnings},
    transport::{self, GrpcService, Pool, Rules, Stack},
};

/// An attempt to fetch the auth token.
const AUTH_TOKEN_ATTEMPT: Duration = Duration::from_secs(5);
/// All of them.
const AUTH_TOKEN_LIMIT: Duration = Duration::from_secs(15);

/// A connection to Modal, or to a server that speaks its API.
///
/// Cheap to clone; every method takes `&self`, and all may run at once.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    environment: Option<Arc<str>>,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) http: Http,
    pub(crate) routers: Pool,
    pub(crate) stack: Stack,
    pub(crate) url: String,
    identity: metadata::Identity,
    auth: AuthToken,
    /// Image builder versions by environment; they do not change while a process runs.
    pub(crate) builder_versions: Mutex<HashMap<String, String>>,
}

/// A client that is to be connected; see [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing is connected until `connect` is awaited"]
pub struct ClientBuilder {
    config: Config,
    stack: Stack,
}

impl ClientBuilder {
    /// Puts a `tower` layer around every connection: to the control plane and to the command routers of sandboxes.
    /// It sees each attempt of each call, with its headers. The layer that is added last is the outermost.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<GrpcService> + Send + Sync + 'static,
        L::Service: Service<http::Request<Body>, Response = http::Response<Body>>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as Service<http::Request<Body>>>::Error: Into<BoxError>,
        <L::Service as Service<http::Request<Body>>>::Future: Send + 'static,
    {
        self.stack.push(layer);
        self
    }

    /// Answers every call with this service instead of any connection: a server of a test in this process, usually
    /// `tonic::service::Routes` of generated services. Command routers are answered by it too. Nothing listens,
    /// and no address is used; only what goes by plain HTTP (blobs, blocks of volumes) still needs one.
    pub fn in_process<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.stack.answer_with(service);
        self
    }

    /// Connects, as [`Client::connect`] does.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub async fn connect(self) -> Result<Client> {
        self.config.credentials()?;
        Client::with_stack(self.config, self.stack).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.shared.url)
            .field("environment", &self.environment)
            .finish()
    }
}

impl Client {
    /// Connects to the server of `config`. Nothing is asked yet: a wrong token shows at the first call,
    /// or at [`verify`](Self::verify).
    ///
    /// # Errors
    /// There is no token ([`Error::Config`]), or no server answers within 10 seconds ([`Error::Unreachable`]).
    pub async fn connect(config: Config) -> Result<Self> {
        Self::builder(config).connect().await
    }

    /// As [`connect`](Self::connect), with something between the client and its connections, or instead of them.
    pub fn builder(config: Config) -> ClientBuilder {
        ClientBuilder { config, stack: Stack::default() }
    }

    /// A client without a token, for the few calls that need none.
    pub(crate) async fn anonymous(config: Config) -> Result<Self> {
        Self::with_stack(config.without_token(), Stack::default()).await
    }

    async fn with_stack(config: Config, stack: Stack) -> Result<Self> {
        let rules = Rules::new(&config.proxies)?;
        let addresses = config.addresses()?;
        let (service, address) = match (stack.in_process(), addresses.first()) {
            (Some(service), Some(address)) => (service, address.clone()),
            _ => {
                let (channel, address) = transport::race(&addresses, &rules).await?;
                (stack.connected(channel), address)
            }
        };
        let wire = Wire {
            service,
            warnings: Arc::new(Warnings::default()),
            max_throttle_wait: config.max_throttle_wait,
        };
        let shared = Shared {
            identity: metadata::Identity::new(&config, address.host())?,
            http: Http::new(&config)?,
            routers: Pool::new(rules, &address),
            auth: AuthToken::default(),
            builder_versions: Mutex::default(),
            url: address.to_string(),
            wire,
            stack,
            config,
        };
        let environment = shared.config.environment.as_deref().map(Arc::from);
        Ok(Self { shared: Arc::new(shared), environment })
    }

    /// The same connection, with another environment for what is made from it.
    #[must_use]
    pub fn with_environment(&self, environment: &str) -> Self {
        Self { shared: Arc::clone(&self.shared), environment: Some(environment.into()) }
    }

    /// The environment that calls name; `None` is the workspace's default.
    pub fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }

    /// The address of the server that answered.
    pub fn server_url(&self) -> &str {
        &self.shared.url
    }

    /// Asks the server whether it takes this client and its token. One RPC.
    pub async fn verify(&self) -> Result<()> {
        let operation = Operation::new("greet", format!("the server at `{}`", self.shared.url));
        let hello = self.call(&methods::CLIENT_HELLO, &(), operation).await?;
        for warning in hello.server_warnings {
            tracing::warn!("{}", warning.message);
        }
        Ok(())
    }

    /// The environment as requests name it: empty for the default one.
    pub(crate) fn environment_name(&self) -> String {
        self.environment.as_deref().unwrap_or_default().to_owned()
    }

    /// ``volume `x` in environment `goat` ``, for error messages.
    pub(crate) fn object(&self, kind: &str, name: &str) -> String {
        match &self.environment {
            Some(environment) => format!("{kind} `{name}` in environment `{environment}`"),
            None => format!("{kind} `{name}`"),
        }
    }

    pub(crate) async fn call<Q, A>(
        &self,
        method: &Method<Q, A>,
        query: &Q,
        operation: Operation,
    ) -> Result<A>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let options = self.options(method, operation).await?;
        self.call_with(method, query, options).await
    }

    pub(crate) async fn call_with<Q, A>(
        &self,
        method: &Method<Q, A>,
        query: &Q,
        options: CallOptions,
    ) -> Result<A>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let answer = self.shared.wire.unary(method, query, &options).await;
        answer.map_err(|failure| failure.into_error(method.name, options.operation))
    }

    /// How `method` is called, unless the caller changes something: no deadline, the usual retries.
    pub(crate) async fn options<Q, A>(
        &self,
        method: &Method<Q, A>,
        operation: Operation,
    ) -> Result<CallOptions> {
        let mut metadata = self.metadata();
        if method.auth_token {
            self.add_auth_token(&mut metadata).await?;
        }
        Ok(self.plain_options(operation, metadata))
    }

    pub(crate) async fn add_auth_token(&self, metadata: &mut MetadataMap) -> Result<()> {
        let token = self.auth_token().await?;
        metadata.insert("x-modal-auth-token", metadata::secret("auth token", token.expose())?);
        Ok(())
    }

    pub(crate) fn metadata(&self) -> MetadataMap {
        self.shared.identity.metadata()
    }

    fn plain_options(&self, operation: Operation, metadata: MetadataMap) -> CallOptions {
        CallOptions {
            operation,
            policy: RetryPolicy::CONTROL,
            headers: Headers::Control,
            deadline: None,
            metadata,
            retries_deadline: true,
        }
    }

    async fn auth_token(&self) -> Result<SecretString> {
        self.shared.auth.get(|held| self.fetch_auth_token(held)).await
    }

    /// `held`: a valid token is at hand, so that one attempt is enough.
    async fn fetch_auth_token(&self, held: bool) -> Result<SecretString> {
        let operation = || Operation::new("fetch", "an auth token");
        let mut options = self.plain_options(operation(), self.metadata());
        options.deadline = Some(AUTH_TOKEN_ATTEMPT);
        if held {
            options.policy = RetryPolicy { retries: 0, ..options.policy };
        }
        let call = self.call_with(&methods::AUTH_TOKEN_GET, &api::AuthTokenGetRequest {}, options);
        let answer = tokio::time::timeout(AUTH_TOKEN_LIMIT, call).await.map_err(|_| {
            Error::deadline(operation(), format!("no token within {AUTH_TOKEN_LIMIT:?}"))
        })??;
        if answer.token.is_empty() {
            return Err(Error::protocol(operation(), "the token is empty"));
        }
        if !auth::is_jwt(&answer.token) {
            return Err(Error::protocol(operation(), "the token is not a JWT"));
        }
        Ok(answer.token.into())
    }
}
