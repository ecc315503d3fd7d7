//! The handle to a project of a server.

use std::sync::Arc;

use base64::Engine as _;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::OnceCell;

use crate::{
    config::Config,
    error::{Error, Result},
    probe::Server,
};

/// The name by which servers know this client.
pub(crate) const SDK_NAME: &str = "rust";
/// Its version.
pub(crate) const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A project of a Langfuse server. Cheap to clone; clones share connections and what was learned of the server.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    http: reqwest::Client,
    identity: HeaderMap,
    server: OnceCell<Server>,
}

impl Client {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Config`] where a key holds what no header can carry.
    pub fn new(config: Config) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config::client_config())
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Config { problem: error.to_string() })?;
        let identity = identity(&config)?;
        let server = OnceCell::new();
        Ok(Self { inner: Arc::new(Inner { config, http, identity, server }) })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    pub(crate) fn identity(&self) -> &HeaderMap {
        &self.inner.identity
    }

    pub(crate) fn server_cell(&self) -> &OnceCell<Server> {
        &self.inner.server
    }
}

/// Basic authentication and who we are, as the SDKs send it.
fn identity(config: &Config) -> Result<HeaderMap> {
    let pair = format!("{}:{}", config.public_key, config.secret_key.expose());
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let problem = |_| Error::Config { problem: "a key holds characters that no header can".into() };
    let mut basic = HeaderValue::from_str(&basic).map_err(problem)?;
    basic.set_sensitive(true);
    let public_key = HeaderValue::from_str(&config.public_key).map_err(problem)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, basic);
    headers.insert("x-langfuse-sdk-name", HeaderValue::from_static(SDK_NAME));
    headers.insert("x-langfuse-sdk-version", HeaderValue::from_static(SDK_VERSION));
    headers.insert("x-langfuse-public-key", public_key);
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretKey;

    #[test]
    fn debug_of_a_client_shows_no_key() {
        let config = Config::new("http://127.0.0.1:1", "pk", SecretKey::new("sk-hidden")).unwrap();
        let shown = format!("{:?}", Client::new(config).unwrap());
        assert!(!shown.contains("sk-hidden"), "{shown}");
        assert!(!shown.contains("cGs6c2staGlkZGVu"), "{shown}");
    }
}
