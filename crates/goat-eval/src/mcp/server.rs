//! One server: the conversation with it, its tools, and what became of it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{
        CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest, Implementation,
        JsonObject, ProtocolVersion, Request, ServerResult, Tool,
    },
    service::{
        ClientInitializeError, NotificationContext, Peer, PeerRequestOptions, RunningService,
        ServiceError,
    },
    transport::{
        StreamableHttpClientTransport,
        streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError},
    },
};

use super::{
    config::{Endpoint, LONGEST_TIMEOUT, Remote, ServerConfig},
    content, sse, stdio,
    stdio::Budget,
};
use crate::{
    error::one_line,
    model::hosts::Hosts,
    progress::shorten,
    secret::Redactor,
    tool::{ToolError, ToolOutput, bash::Processes},
};

/// Time for a server to start and greet: `npx` may have to fetch it first.
const CONNECT: Duration = Duration::from_secs(60);
/// Time for a list of tools or resources.
pub(super) const LIST: Duration = Duration::from_secs(30);
/// Time to say goodbye.
pub(crate) const CLOSE: Duration = Duration::from_millis(300);
/// Tools of a server at most: OpenAI's API takes 128 of all.
pub(super) const MOST_TOOLS: usize = 128;

/// Why a server is gone; said once, by whoever knows first.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate(Arc<Mutex<Option<String>>>);

impl Fate {
    pub(super) fn seal(&self, why: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    pub(super) fn known(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The client's side of a conversation: no sampling, no questions, no roots; hears of changed lists.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener {
    changed: Arc<AtomicBool>,
}

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let own = Implementation::new("goat-eval", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), own)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.store(true, Ordering::Relaxed);
    }
}

/// A server that was reached.
pub(super) struct Server {
    pub(super) name: String,
    /// `stdio`, `http` or `sse`.
    pub(super) transport: &'static str,
    pub(super) peer: Peer<RoleClient>,
    running: Mutex<Option<RunningService<RoleClient, Listener>>>,
    listener: Listener,
    budget: Budget,
    fate: Fate,
    timeout: Duration,
    redactor: Redactor,
    /// Whether the end was told.
    buried: AtomicBool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Starts or reaches a server and exchanges greetings; an error says in one line why that failed.
pub(super) async fn connect(
    config: &ServerConfig,
    processes: &Arc<Processes>,
    redactor: &Redactor,
) -> Result<Server, String> {
    let (budget, fate) = (Budget::default(), Fate::default());
    let greeting = greet(config, processes, &budget, &fate);
    let result = match tokio::time::timeout(CONNECT, greeting).await {
        Ok(result) => result,
        Err(_) => Err(format!("no greeting within {} seconds", CONNECT.as_secs())),
    };
    let (transport, listener, running) = match result {
        Ok(reached) => reached,
        Err(reason) => return Err(redactor.clean(&told(&fate, reason).await)),
    };
    Ok(Server {
        name: config.name.clone(),
        transport,
        peer: running.peer().clone(),
        running: Mutex::new(Some(running)),
        listener,
        budget,
        fate,
        timeout: config.timeout,
        redactor: redactor.clone(),
        buried: AtomicBool::new(false),
    })
}

/// How a program ended says more than that its pipe closed; it is known a moment later.
async fn told(fate: &Fate, reason: String) -> String {
    for _ in 0..20 {
        if let Some(why) = fate.known() {
            return why;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    reason
}

/// The innermost cause, which says it all.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    loop {
        // The SDK shows the cause and does not tell it as one.
        let cause = match root.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            Some(StreamableHttpError::Client(error)) => Some(error as _),
            _ => root.source(),
        };
        match cause {
            Some(source) => root = source,
            None => return root.to_string(),
        }
    }
}

type Reached = (&'static str, Listener, RunningService<RoleClient, Listener>);

async fn greet(
    config: &ServerConfig,
    processes: &Arc<Processes>,
    budget: &Budget,
    fate: &Fate,
) -> Result<Reached, String> {
    let listener = Listener::default();
    let client = listener.clone();
    let reason = |error| match error {
        ClientInitializeError::TransportError { error, .. } => root(&error),
        error => shorten(&one_line(&error), 300),
    };
    match &config.endpoint {
        Endpoint::Stdio { command, .. } => {
            let transport = stdio::start(&config.endpoint, processes, budget, fate)
                .map_err(|error| format!("cannot start `{command}`: {error}"))?;
            let running = client.serve(transport).await.map_err(reason)?;
            Ok(("stdio", listener, running))
        }
        Endpoint::Http(remote) => {
            let headers: HashMap<HeaderName, HeaderValue> = headers(remote)?
                .into_iter()
                .filter_map(|(name, value)| Some((name?, value)))
                .collect();
            let transport = StreamableHttpClientTransportConfig::with_uri(remote.url.expose())
                .custom_headers(headers);
            let transport = StreamableHttpClientTransport::with_client(http()?, transport);
            let running = client.serve(transport).await.map_err(reason)?;
            Ok(("http", listener, running))
        }
        Endpoint::Sse(remote) => {
            let url = Url::parse(remote.url.expose()).map_err(|_| "its address is none")?;
            let transport = sse::SseTransport::connect(
                http()?,
                url,
                headers(remote)?,
                budget.clone(),
                fate.clone(),
            );
            let transport = transport.await.map_err(|error| one_line(&error))?;
            let running = client.serve(transport).await.map_err(reason)?;
            Ok(("sse", listener, running))
        }
    }
}

/// A client for servers alone: it has none of the model's headers, and follows no redirect, which would carry a
/// server's own elsewhere.
fn http() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls_config::client_config())
        .dns_resolver(Hosts::default())
        .user_agent(concat!("goat-eval/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|_| "the HTTP client cannot be set up".to_owned())
}

fn headers(remote: &Remote) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &remote.headers {
        let bad = || format!("its header `{name}` can't be sent");
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
    }
    Ok(headers)
}

impl Server {
    /// Its tools as they are now; at most [`MOST_TOOLS`], and whether there are more.
    pub(super) async fn tools(&self) -> Result<(Vec<Tool>, bool), String> {
        self.listener.changed.store(false, Ordering::Relaxed);
        self.budget.renew();
        let offers = self.peer.peer_info().is_some_and(|info| info.capabilities.tools.is_some());
        if !offers {
            return Ok((Vec::new(), false));
        }
        let listed = tokio::time::timeout(LIST, self.peer.list_all_tools()).await;
        let mut tools = match listed {
            Ok(Ok(tools)) => tools,
            Ok(Err(error)) => return Err(self.explain(&error)),
            Err(_) => return Err(format!("no list of tools within {} seconds", LIST.as_secs())),
        };
        let more = tools.len() > MOST_TOOLS;
        tools.truncate(MOST_TOOLS);
        Ok((tools, more))
    }

    /// Whether it said that its tools are others now.
    pub(super) fn has_changed(&self) -> bool {
        self.listener.changed.load(Ordering::Relaxed) && !self.peer.is_transport_closed()
    }

    /// Why it is gone; once.
    pub(super) fn obituary(&self) -> Option<String> {
        let gone = self.peer.is_transport_closed() || self.fate.known().is_some();
        let first = gone && !self.buried.swap(true, Ordering::Relaxed);
        first.then(|| self.gone())
    }

    fn gone(&self) -> String {
        let why = self.fate.known().unwrap_or_else(|| "it closed the connection".to_owned());
        self.redactor.clean(&why)
    }

    /// Calls a tool by the name that the server gave it.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: JsonObject,
    ) -> Result<ToolOutput, ToolError> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let answer = self.ask(ClientRequest::CallToolRequest(Request::new(params)), self.timeout);
        match answer.await? {
            ServerResult::CallToolResult(result) => Ok(content::output(result)),
            _ => {
                Err(self.failed("it answered with something else than a tool's result".to_owned()))
            }
        }
    }

    /// Sends a request. News of progress give it more time, up to a limit.
    pub(super) async fn ask(
        &self,
        request: ClientRequest,
        timeout: Duration,
    ) -> Result<ServerResult, ToolError> {
        if self.peer.is_transport_closed() {
            return Err(self.failed(format!("it is gone: {}", self.gone())));
        }
        self.budget.renew();
        let options = PeerRequestOptions::with_timeout(timeout)
            .reset_timeout_on_progress()
            .with_max_total_timeout(LONGEST_TIMEOUT);
        let answer = async {
            self.peer.send_cancellable_request(request, options).await?.await_response().await
        };
        match answer.await {
            Ok(result) => Ok(result),
            Err(error) => {
                let reason = self.explain(&error);
                let is_gone =
                    matches!(error, ServiceError::TransportClosed | ServiceError::TransportSend(_));
                Err(self.failed(if is_gone { told(&self.fate, reason).await } else { reason }))
            }
        }
    }

    fn explain(&self, error: &ServiceError) -> String {
        let text = match error {
            ServiceError::McpError(error) => error.message.to_string(),
            ServiceError::Timeout { timeout } => {
                format!("no answer within {} seconds", timeout.as_secs_f64())
            }
            ServiceError::TransportClosed => self.gone(),
            // Its own words name types of the SDK and the address, which may hold a key.
            ServiceError::TransportSend(error) => {
                format!("its connection broke: {}", root(error))
            }
            error => one_line(error),
        };
        self.redactor.clean(&shorten(&text, 500))
    }

    fn failed(&self, reason: String) -> ToolError {
        ToolError::Failed(format!("MCP server `{}`: {}", self.name, self.redactor.clean(&reason)))
    }

    /// Ends the conversation in good order, if that is quick.
    pub(super) async fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut running) = running {
            self.buried.store(true, Ordering::Relaxed);
            let _ = running.close_with_timeout(CLOSE).await;
        }
    }
}
