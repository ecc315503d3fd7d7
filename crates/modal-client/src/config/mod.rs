//! Which server, with which token, in which environment.
//!
//! This library reads neither the process's environment nor a home directory by itself: a binary
//! hands over an [`Environ`], a library a [`Config`] that it made with [`Config::new`].

mod environ;
mod file;

use std::{path::PathBuf, time::Duration};

pub use environ::Environ;

use crate::{error::Result, secret_string::SecretString};

/// Where Modal's control plane is: two names for the same service, tried one after the other.
pub const DEFAULT_SERVER_URL: &str = "https://api.modal.com,https://api.modal2.com";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The configuration file exists but cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file is not TOML of the expected shape.
    #[error("`{}` is not a valid Modal configuration: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong. (A parser's own error would quote the line, which may hold a token.)
        problem: String,
    },
    /// The profile that was asked for is not in the file.
    #[error("there is no profile `{profile}` in `{}`; `modal profile list` shows those there are", path.display())]
    NoProfile {
        /// The profile.
        profile: String,
        /// The file.
        path: PathBuf,
    },
    /// Only a half of the token is there.
    #[error("`{missing}` is not set, but the other half of the token is; set both or neither")]
    HalfToken {
        /// The variable or key that is missing.
        missing: &'static str,
    },
    /// There is no token at all.
    #[error(
        "there is no token; set `MODAL_TOKEN_ID` and `MODAL_TOKEN_SECRET`, or run `modal token set`"
    )]
    NoToken,
    /// A setting's value is not valid.
    #[error("`{value}` is not a valid value of `{setting}`: {problem}")]
    InvalidValue {
        /// The setting, by the name of its variable.
        setting: &'static str,
        /// Its value; never a secret.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// How to reach a server and who is asking.
///
/// `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(crate) server_urls: Vec<String>,
    pub(crate) token_id: Option<String>,
    pub(crate) token_secret: Option<SecretString>,
    pub(crate) environment: Option<String>,
    pub(crate) image_builder_version: Option<String>,
    pub(crate) max_throttle_wait: Option<Duration>,
    pub(crate) proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
    profile: Option<String>,
}

impl Config {
    /// A server and a token, nothing read from anywhere. `server_url` may list several addresses of
    /// one service, separated by commas.
    pub fn new(
        server_url: &str,
        token_id: impl Into<String>,
        token_secret: impl Into<SecretString>,
    ) -> Self {
        Self {
            server_urls: split_urls(server_url),
            token_id: Some(token_id.into()),
            token_secret: Some(token_secret.into()),
            environment: None,
            image_builder_version: None,
            max_throttle_wait: None,
            proxy: None,
            no_proxy: None,
            profile: None,
        }
    }

    /// The configuration that Modal's own clients would use: `MODAL_…` variables first, then the
    /// profile of `~/.modal.toml` (or `MODAL_CONFIG_PATH`). Empty variables count as unset.
    ///
    /// # Errors
    /// The file exists but cannot be read or parsed, the wanted profile is missing, or a value is not valid.
    pub fn from_env_and_file(environ: &Environ) -> Result<Self> {
        let profile = file::profile(environ)?;
        let setting =
            |name: &str| environ.get(&format!("MODAL_{}", name.to_uppercase())).map(str::to_owned);
        let settings = &profile.settings;
        let config = Self {
            server_urls: split_urls(
                &setting("server_url")
                    .or_else(|| settings.server_url.clone())
                    .unwrap_or_else(|| DEFAULT_SERVER_URL.to_owned()),
            ),
            token_id: setting("token_id").or_else(|| settings.token_id.clone()),
            token_secret: setting("token_secret")
                .or_else(|| settings.token_secret.clone())
                .map(SecretString::from),
            environment: setting("environment").or_else(|| settings.environment.clone()),
            image_builder_version: setting("image_builder_version")
                .or_else(|| settings.image_builder_version.clone()),
            max_throttle_wait: environ
                .get("MODAL_MAX_THROTTLE_WAIT")
                .map(parse_throttle_wait)
                .transpose()?,
            proxy: environ
                .get("HTTPS_PROXY")
                .or_else(|| environ.get("https_proxy"))
                .map(str::to_owned),
            no_proxy: environ
                .get("NO_PROXY")
                .or_else(|| environ.get("no_proxy"))
                .map(str::to_owned),
            profile: profile.name,
        };
        config.check_token_halves()?;
        Ok(config)
    }

    /// Calls name this environment; without one the server takes the workspace's default.
    #[must_use]
    pub fn with_environment(mut self, environment: impl Into<String>) -> Self {
        self.environment = Some(environment.into());
        self
    }

    /// Images are built by this version of Modal's builder instead of the environment's.
    #[must_use]
    pub fn with_image_builder_version(mut self, version: impl Into<String>) -> Self {
        self.image_builder_version = Some(version.into());
        self
    }

    /// How long in all one call may wait because the server says that it is busy; zero fails at once.
    #[must_use]
    pub fn with_max_throttle_wait(mut self, limit: Duration) -> Self {
        self.max_throttle_wait = Some(limit);
        self
    }

    /// The addresses of the server, in the order they are tried.
    pub fn server_urls(&self) -> &[String] {
        &self.server_urls
    }

    /// The environment that calls name.
    pub fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }

    /// The profile of the configuration file that was read, if one was.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Whether a token is configured.
    pub fn has_token(&self) -> bool {
        self.token_id.is_some() && self.token_secret.is_some()
    }

    pub(crate) fn token(&self) -> Result<(&str, &SecretString), ConfigError> {
        match (&self.token_id, &self.token_secret) {
            (Some(id), Some(secret)) => Ok((id, secret)),
            _ => Err(ConfigError::NoToken),
        }
    }

    fn check_token_halves(&self) -> Result<(), ConfigError> {
        match (&self.token_id, &self.token_secret) {
            (Some(_), None) => Err(ConfigError::HalfToken { missing: "MODAL_TOKEN_SECRET" }),
            (None, Some(_)) => Err(ConfigError::HalfToken { missing: "MODAL_TOKEN_ID" }),
            _ => Ok(()),
        }
    }
}

fn split_urls(list: &str) -> Vec<String> {
    list.split(',')
        .map(|url| url.trim().trim_end_matches('/').to_owned())
        .filter(|url| !url.is_empty())
        .collect()
}

fn parse_throttle_wait(value: &str) -> Result<Duration, ConfigError> {
    let invalid = |problem| ConfigError::InvalidValue {
        setting: "MODAL_MAX_THROTTLE_WAIT",
        value: value.to_owned(),
        problem,
    };
    let seconds: f64 = value.parse().map_err(|_| invalid("expected a number of seconds"))?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| invalid("expected a number of seconds from 0 up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_prints_no_secret() {
        let config = Config::new("http://127.0.0.1:1", "ak-1", "as-planted");
        assert!(!format!("{config:?}").contains("as-planted"));
    }

    #[test]
    fn several_addresses_are_kept_in_order() {
        let config = Config::new("https://a.example/, https://b.example", "ak", "as");
        assert_eq!(config.server_urls(), ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn the_throttle_limit_must_be_a_number_of_seconds() {
        let environ = Environ::from_pairs([("MODAL_MAX_THROTTLE_WAIT", "soon")]);
        let error = Config::from_env_and_file(&environ).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            source,
            "`soon` is not a valid value of `MODAL_MAX_THROTTLE_WAIT`: expected a number of seconds"
        );
    }
}
