//! Where the server is and who asks.

use std::time::Duration;

use url::Url;

use crate::{
    error::{Error, Result},
    retry::RetryPolicy,
    secret::SecretKey,
};

/// How to reach a project of a Langfuse server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server's address, without `/api/public`.
    pub base_url: Url,
    /// The project's public key, `pk-lf-…`; it is also the user name of Basic authentication.
    pub public_key: String,
    /// The project's secret key, `sk-lf-…`.
    pub secret_key: SecretKey,
    /// Limit of one attempt, from connecting to the last byte of the answer. Default 30 s.
    pub timeout: Duration,
    /// When and how often a call is repeated.
    pub retry: RetryPolicy,
}

impl Config {
    /// A configuration with the default time limits.
    ///
    /// # Errors
    /// [`Error::Config`] where the address is no `http` or `https` URL.
    pub fn new(
        base_url: &str,
        public_key: impl Into<String>,
        secret_key: SecretKey,
    ) -> Result<Self> {
        let problem = |problem: String| Error::Config { problem };
        let base_url = Url::parse(base_url.trim_end_matches('/'))
            .map_err(|error| problem(format!("the server's address is no URL: {error}")))?;
        if !matches!(base_url.scheme(), "http" | "https") || base_url.host_str().is_none() {
            return Err(problem("the server's address must begin with http:// or https://".into()));
        }
        Ok(Self {
            base_url,
            public_key: public_key.into(),
            secret_key,
            timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
        })
    }

    /// Reads the variables that the official SDKs read, through `lookup`: `LANGFUSE_PUBLIC_KEY`,
    /// `LANGFUSE_SECRET_KEY` and `LANGFUSE_HOST` or `LANGFUSE_BASE_URL`.
    ///
    /// There is no default address: a forgotten variable must not send traces to somebody else's server.
    ///
    /// # Errors
    /// [`Error::Config`] names the variable that is missing or unusable.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let need = |name: &str| {
            get(name).ok_or_else(|| Error::Config { problem: format!("`{name}` is not set") })
        };
        let address = get("LANGFUSE_HOST").or_else(|| get("LANGFUSE_BASE_URL"));
        let address = address.ok_or_else(|| Error::Config {
            problem: "neither `LANGFUSE_HOST` nor `LANGFUSE_BASE_URL` is set".into(),
        })?;
        let secret = SecretKey::new(need("LANGFUSE_SECRET_KEY")?);
        Self::new(&address, need("LANGFUSE_PUBLIC_KEY")?, secret)
    }

    /// With another retry policy.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// With another limit of one attempt.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_is_named() {
        let error = Config::from_vars(|name| (name == "LANGFUSE_HOST").then(|| "http://h".into()));
        assert_eq!(
            error.unwrap_err().to_string(),
            "the Langfuse configuration cannot be used: `LANGFUSE_SECRET_KEY` is not set"
        );
    }

    #[test]
    fn debug_hides_the_secret_key() {
        let config = Config::new("http://h/", "pk", SecretKey::new("sk-hidden")).unwrap();
        assert!(!format!("{config:?}").contains("sk-hidden"));
    }
}
