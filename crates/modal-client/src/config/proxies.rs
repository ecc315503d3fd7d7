//! The proxies of an environment, as programs agree on them.

use secret_string::SecretString;

use super::Environ;

/// The proxies that are configured. Their URLs may hold passwords and are not printed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Proxies {
    pub(crate) http: Option<SecretString>,
    pub(crate) https: Option<SecretString>,
    pub(crate) all: Option<SecretString>,
    no: Option<String>,
}

impl Proxies {
    /// Those of `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, the lower-case names first, as Python's
    /// `urllib.request.getproxies`; none with `MODAL_DISABLE_API_PROXY` (or the profile's `disable_api_proxy`).
    pub(crate) fn of_environ(environ: &Environ, profile_disables: Option<bool>) -> Self {
        let disabled = match environ.get("MODAL_DISABLE_API_PROXY") {
            Some(value) => !matches!(value.to_lowercase().as_str(), "0" | "false"),
            None => profile_disables.unwrap_or(false),
        };
        if disabled {
            return Self::default();
        }
        let variable = |name: &str| environ.get(&name.to_lowercase()).or_else(|| environ.get(name));
        let url = |name| variable(name).map(SecretString::from);
        Self {
            http: url("HTTP_PROXY"),
            https: url("HTTPS_PROXY"),
            all: url("ALL_PROXY"),
            no: variable("NO_PROXY").map(str::to_owned),
        }
    }

    /// The hosts that are reached without a proxy, separated by commas.
    pub(crate) fn no_proxy(&self) -> &str {
        self.no.as_deref().unwrap_or_default()
    }
}
