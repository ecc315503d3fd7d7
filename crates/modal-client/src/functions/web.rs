//! How a function is reached by HTTP.

use std::time::Duration;

/// How long a web server may take to answer its port, unless it says otherwise.
const DEFAULT_STARTUP: Duration = Duration::from_secs(5);

/// How a function is reached by HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Web {
    pub(super) kind: WebKind,
    pub(super) label: String,
    pub(super) requires_proxy_auth: bool,
    pub(super) custom_domains: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum WebKind {
    Server { port: u16, startup: Duration },
    Endpoint { method: String, docs: bool },
    Asgi,
    Wsgi,
}

impl Web {
    /// The callable starts a server of its own that listens on this port, and returns.
    pub fn server(port: u16) -> Self {
        Self::new(WebKind::Server { port, startup: DEFAULT_STARTUP })
    }

    /// Each call of the callable answers a request of this method; the image has FastAPI.
    pub fn endpoint(method: impl Into<String>) -> Self {
        Self::new(WebKind::Endpoint { method: method.into(), docs: false })
    }

    /// The callable returns an ASGI application.
    pub fn asgi() -> Self {
        Self::new(WebKind::Asgi)
    }

    /// The callable returns a WSGI application.
    pub fn wsgi() -> Self {
        Self::new(WebKind::Wsgi)
    }

    fn new(kind: WebKind) -> Self {
        Self { kind, label: String::new(), requires_proxy_auth: false, custom_domains: Vec::new() }
    }

    /// How long a [`server`](Self::server) may take to listen; five seconds unless this is called.
    #[must_use]
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        if let WebKind::Server { startup, .. } = &mut self.kind {
            *startup = timeout;
        }
        self
    }

    /// Whether an [`endpoint`](Self::endpoint) shows its documentation at `/docs`.
    #[must_use]
    pub fn docs(mut self, show: bool) -> Self {
        if let WebKind::Endpoint { docs, .. } = &mut self.kind {
            *docs = show;
        }
        self
    }

    /// A part of the address, instead of the names of the app and the function.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Whether requests need a proxy auth token in `Modal-Key` and `Modal-Secret`.
    #[must_use]
    pub fn requires_proxy_auth(mut self, requires: bool) -> Self {
        self.requires_proxy_auth = requires;
        self
    }

    /// A domain of one's own that it answers at too.
    #[must_use]
    pub fn custom_domain(mut self, domain: impl Into<String>) -> Self {
        self.custom_domains.push(domain.into());
        self
    }
}
