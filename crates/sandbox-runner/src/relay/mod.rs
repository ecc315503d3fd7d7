//! How an agent in a sandbox reaches its model without holding the model's key.
//!
//! [`Relay`] is a small reverse proxy in the runner's process, on loopback. A trial gets a random
//! token that works while the trial runs; the relay takes it as bearer, lets the few paths of an
//! OpenAI-compatible API through and puts the real key in its place. [`Registration`] makes the
//! relay visible to sandboxes of `modal-local` under a name of its own.
//!
//! Modal's sandboxes cannot reach this machine: there, [`Direct`] hands the address and the key
//! themselves to the sandbox, which the user must have allowed.

mod proxy;
mod redact;
mod registration;
mod upstream;

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use eval_types::TrialKey;

pub use self::{
    proxy::{Relay, Token},
    registration::{FindServer, Registration, RelayServer},
    upstream::{Found, Upstream},
};
use crate::{Error, Result, secret::Secret};

/// How agents reach their model.
#[async_trait]
pub trait ModelAccess: Send + Sync {
    /// Access for one attempt at a trial; it ends when the grant is dropped.
    async fn grant(&self, trial: &TrialKey) -> Result<ModelGrant>;
}

/// Makes keys that are a trial's own: short-lived, and good for nothing but its calls.
pub trait TrialKeys: Debug + Send + Sync {
    /// A key for one attempt that begins now.
    fn key(&self, trial: &TrialKey) -> Result<Secret>;
}

/// One trial's access to its model.
#[derive(Debug)]
pub struct ModelGrant {
    /// `OPENAI_BASE_URL` in the sandbox, with its `/v1`.
    pub base_url: String,
    /// The host of it, for lists of allowed names.
    pub host: String,
    /// `OPENAI_API_KEY` in the sandbox.
    pub key: Secret,
    /// The model's own address, which its user knows.
    pub upstream: String,
    /// Keeps a relay's token alive.
    pub token: Option<Token>,
}

impl ModelGrant {
    /// A text of the agent with the model's own address in it, for people.
    pub(crate) fn for_people(&self, text: &str) -> String {
        text.replace(&self.base_url, &self.upstream)
    }
}

/// Hands the address and the key to the sandbox.
#[derive(Debug)]
pub struct Direct {
    /// The model.
    pub upstream: Upstream,
    /// Makes a key for each trial; none: all of them get the server's.
    pub keys: Option<Arc<dyn TrialKeys>>,
}

#[async_trait]
impl ModelAccess for Direct {
    async fn grant(&self, trial: &TrialKey) -> Result<ModelGrant> {
        let own = self.keys.as_ref().map(|keys| keys.key(trial)).transpose()?;
        let key = own.or_else(|| self.upstream.key().cloned());
        let key = key.unwrap_or_else(|| Secret::new("none"));
        let base_url = self.upstream.base_url().to_owned();
        let (upstream, host) = (base_url.clone(), self.upstream.host().to_owned());
        Ok(ModelGrant { base_url, host, key, upstream, token: None })
    }
}

/// Hands a relay's name and a token to the sandbox.
#[derive(Debug)]
pub struct Relayed {
    /// The relay.
    pub relay: Relay,
    /// Its name in sandboxes; none: sandboxes share this machine's loopback, as in tests.
    pub registration: Option<Registration>,
    /// Makes a key for each trial; none: calls of all of them go on with the server's.
    pub keys: Option<Arc<dyn TrialKeys>>,
}

#[async_trait]
impl ModelAccess for Relayed {
    async fn grant(&self, trial: &TrialKey) -> Result<ModelGrant> {
        let own = self.keys.as_ref().map(|keys| keys.key(trial)).transpose()?;
        let (key, token) = self.relay.grant(trial, own)?;
        let (host, port) = match &self.registration {
            Some(registration) => registration.address().await?,
            None => (self.relay.address().ip().to_string(), self.relay.address().port()),
        };
        Ok(ModelGrant {
            base_url: format!("http://{host}:{port}/v1"),
            host,
            key,
            upstream: self.relay.upstream().to_owned(),
            token: Some(token),
        })
    }
}

pub(crate) fn failed(source: impl Into<crate::BoxError>) -> Error {
    Error::Relay { source: source.into() }
}
