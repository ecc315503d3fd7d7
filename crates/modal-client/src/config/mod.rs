//! Which server, with which token, in which environment.
//!
//! This library reads neither the process's environment nor a home directory by itself: a binary
//! hands over an [`Environ`], a library a [`Config`] that it made with [`Config::new`].

mod credentials;
mod environ;
mod file;
mod proxies;
mod store;

use secret_string::SecretString;
use std::{path::PathBuf, time::Duration};

pub(crate) use credentials::{Credentials, OAuthSettings, Proof};
pub use environ::Environ;
pub(crate) use proxies::Proxies;
pub use store::{config_path, store_token};

use crate::{error::Result, transport::Address};

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
    /// The configuration file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Unwritable {
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
    /// Only a part of what OAuth needs is there.
    #[error(
        "`{missing}` must be set too: OAuth is a refresh token, a client id, and a client secret or a key"
    )]
    HalfOAuth {
        /// The variable that is missing.
        missing: &'static str,
    },
    /// A token and OAuth are both configured, and nothing says which counts.
    #[error("a token and OAuth credentials are both configured; unset one of them")]
    TwoCredentials,
    /// There is no token at all.
    #[error(
        "there is no token; set `MODAL_TOKEN_ID` and `MODAL_TOKEN_SECRET`, or run `cargo xtask login`"
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
    pub(crate) proxies: Proxies,
    oauth: OAuthSettings,
    /// Inside one of Modal's containers: its worker knows who is asking.
    is_container: bool,
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
            proxies: Proxies::default(),
            oauth: OAuthSettings::default(),
            is_container: false,
            profile: None,
        }
    }

    /// The configuration that Modal's own clients would use: `MODAL_…` variables first, then the
    /// profile of `~/.modal.toml` (or `MODAL_CONFIG_PATH`). Empty variables count as unset.
    ///
    /// # Errors
    /// The file exists but cannot be read or parsed, the wanted profile is missing, or a value is not valid.
    pub fn from_env_and_file(environ: &Environ) -> Result<Self> {
        let is_container = environ.get("MODAL_IS_REMOTE") == Some("1");
        let profile = if is_container { file::Profile::default() } else { file::profile(environ)? };
        let settings = profile.settings;
        let setting = |name: &str, of_profile: Option<String>| {
            environ.get(&format!("MODAL_{}", name.to_uppercase())).map(str::to_owned).or(of_profile)
        };
        let secret = |name, of_profile| setting(name, of_profile).map(SecretString::from);
        let url = setting("server_url", settings.server_url);
        let throttle =
            setting("max_throttle_wait", settings.max_throttle_wait.map(|wait| wait.text()));
        let config = Self {
            server_urls: split_urls(url.as_deref().unwrap_or(DEFAULT_SERVER_URL)),
            token_id: setting("token_id", settings.token_id),
            token_secret: secret("token_secret", settings.token_secret),
            environment: setting("environment", settings.environment),
            image_builder_version: setting("image_builder_version", settings.image_builder_version),
            max_throttle_wait: throttle.as_deref().map(parse_throttle_wait).transpose()?,
            proxies: Proxies::of_environ(environ, settings.disable_api_proxy),
            oauth: OAuthSettings {
                refresh_token: secret("oauth_refresh_token", settings.oauth_refresh_token),
                client_id: setting("oauth_client_id", settings.oauth_client_id),
                client_secret: secret("oauth_client_secret", settings.oauth_client_secret),
                jwt_key: secret("oauth_jwt_key", settings.oauth_jwt_key),
            },
            is_container,
            profile: profile.name,
        };
        config.check_credentials()?;
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

    /// Whether there is something to authenticate with: a token, OAuth, or a container's own standing.
    pub fn has_token(&self) -> bool {
        self.credentials().is_ok()
    }

    pub(crate) fn without_token(mut self) -> Self {
        self.token_id = None;
        self.token_secret = None;
        self.oauth = OAuthSettings::default();
        self.is_container = false;
        self
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(self, id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        let mut config = self.without_token();
        config.token_id = Some(id.into());
        config.token_secret = Some(secret.into());
        config
    }

    /// What requests authenticate with.
    pub(crate) fn credentials(&self) -> Result<Credentials<'_>, ConfigError> {
        if self.is_container {
            return Ok(Credentials::Container);
        }
        if self.oauth.is_any() {
            return self.oauth.credentials();
        }
        match (&self.token_id, &self.token_secret) {
            (Some(id), Some(secret)) => Ok(Credentials::Token { id, secret }),
            _ => Err(ConfigError::NoToken),
        }
    }

    /// Where the server is, taken apart.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, ConfigError> {
        self.server_urls.iter().map(|url| Address::parse(url)).collect()
    }

    fn check_credentials(&self) -> Result<(), ConfigError> {
        if self.is_container {
            return Ok(());
        }
        if self.oauth.is_any() {
            if self.token_id.is_some() || self.token_secret.is_some() {
                return Err(ConfigError::TwoCredentials);
            }
            return self.oauth.credentials().map(drop);
        }
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
    fn a_config_prints_neither_a_proxys_password_nor_oauth_secrets() {
        let config = Config::from_env_and_file(&Environ::from_pairs([
            ("HTTPS_PROXY", "http://user:planted@proxy.example:3128"),
            ("ALL_PROXY", "http://user:planted@proxy.example:3128"),
            ("MODAL_OAUTH_REFRESH_TOKEN", "planted-refresh"),
            ("MODAL_OAUTH_CLIENT_ID", "client"),
            ("MODAL_OAUTH_CLIENT_SECRET", "planted-secret"),
        ]));
        let text = format!("{:?}", config.unwrap());
        assert!(text.contains("proxies") && !text.contains("planted"), "{text}");
    }

    fn credentials(variables: &[(&str, &str)]) -> String {
        let config = Config::from_env_and_file(&Environ::from_pairs(variables.iter().copied()));
        match &config {
            Ok(config) => format!("{:?}", config.credentials()),
            Err(error) => std::error::Error::source(error).unwrap().to_string(),
        }
    }

    #[test]
    fn oauth_is_complete_and_alone_or_an_error() {
        let (refresh, id) =
            (("MODAL_OAUTH_REFRESH_TOKEN", "r"), ("MODAL_OAUTH_CLIENT_ID", "client"));
        let (secret, key) = (("MODAL_OAUTH_CLIENT_SECRET", "s"), ("MODAL_OAUTH_JWT_KEY", "k"));
        let token = [("MODAL_TOKEN_ID", "ak"), ("MODAL_TOKEN_SECRET", "as")];
        assert!(credentials(&[refresh, id, secret]).contains("proof: Secret(****)"));
        assert!(credentials(&[refresh, id, key]).contains("proof: Key(****)"));
        assert!(credentials(&[refresh, id]).contains("exactly one"));
        assert!(credentials(&[refresh, id, secret, key]).contains("exactly one"));
        assert!(credentials(&[id, secret]).contains("MODAL_OAUTH_REFRESH_TOKEN"));
        let both = [token[0], token[1], refresh, id, secret];
        assert!(credentials(&both).contains("both configured"));
    }

    #[test]
    fn a_container_says_nothing_of_itself_and_reads_no_file() {
        let container = [
            ("MODAL_IS_REMOTE", "1"),
            ("MODAL_SERVER_URL", "unix:/run/modal.sock"),
            ("MODAL_TOKEN_ID", "ak"),
            ("MODAL_PROFILE", "nope"),
            ("MODAL_CONFIG_PATH", "/nonexistent"),
        ];
        assert_eq!(credentials(&container), "Ok(Container)");
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
