//! Where a server is: `https://HOST[:PORT]`, `http://HOST[:PORT]` or `unix:/PATH`.

use std::{fmt, path::PathBuf};

use crate::config::ConfigError;

/// An address, taken apart. Printed as it is written, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host, and whether TLS is spoken there. `host` is a name, an IPv4 address or an IPv6 address without brackets.
    Tcp { tls: bool, host: String, port: u16 },
    /// A socket of this machine: how a container reaches its worker.
    Unix(PathBuf),
}

impl Address {
    /// The address of a control plane.
    ///
    /// # Errors
    /// It is none of the three forms; the error shows no credentials.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::of_setting("MODAL_SERVER_URL", text)
    }

    /// The same for an address that comes from elsewhere, which errors name.
    pub(super) fn of_setting(setting: &'static str, text: &str) -> Result<Self, ConfigError> {
        let invalid = |problem| ConfigError::InvalidValue {
            setting,
            value: without_credentials(text),
            problem,
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(invalid("expected `unix:` and the absolute path of a socket"))
            };
        }
        let url = url::Url::parse(text)
            .map_err(|_| invalid("expected a URL such as `https://api.modal.com`"))?;
        let shape = "expected `http://HOST:PORT`, `https://HOST` or `unix:/PATH`";
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid(shape)),
        };
        let host = match url.host() {
            Some(url::Host::Ipv6(ip)) => ip.to_string(),
            Some(host) => host.to_string(),
            None => return Err(invalid(shape)),
        };
        let port = url.port_or_known_default().ok_or_else(|| invalid(shape))?;
        Ok(Self::Tcp { tls, host, port })
    }

    /// The host, for the header that names it; a socket has none.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }

    /// Whether it is this machine by one of the names that Modal's Python client knows it by
    /// (`_is_localhost` of its `client.py`, 1.6.4); routers of such a server may be unverified or plaintext.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.host(), Some("localhost" | "127.0.0.1" | "::1" | "172.21.0.1"))
    }

    /// The address as a request's target names it.
    pub(crate) fn uri(&self) -> String {
        match self {
            Self::Tcp { tls, host, port } => {
                let scheme = if *tls { "https" } else { "http" };
                if host.contains(':') {
                    format!("{scheme}://[{host}]:{port}")
                } else {
                    format!("{scheme}://{host}:{port}")
                }
            }
            Self::Unix(_) => "http://localhost".to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => f.write_str(&self.uri()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A URL as it may be shown.
pub(crate) fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => {
            format!("{}****{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_taken_apart_and_printed_again() {
        for (text, uri, host) in [
            ("https://api.modal.com", "https://api.modal.com:443", Some("api.modal.com")),
            ("http://127.0.0.1:80", "http://127.0.0.1:80", Some("127.0.0.1")),
            ("http://[::1]:9", "http://[::1]:9", Some("::1")),
            ("https://[2001:db8::1]", "https://[2001:db8::1]:443", Some("2001:db8::1")),
            ("unix:/run/modal.sock", "http://localhost", None),
            ("unix:///run/modal.sock", "http://localhost", None),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.uri().as_str(), address.host()), (uri, host));
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
    }

    #[test]
    fn a_bad_address_is_refused_and_its_credentials_hidden() {
        for url in ["127.0.0.1:1", "ftp://x", "", "unix:relative", "unix:"] {
            assert!(Address::parse(url).is_err(), "{url} was accepted");
        }
        let error = Address::parse("ftp://user:planted@x").unwrap_err().to_string();
        assert!(!error.contains("planted"), "{error}");
        let shown = Address::parse("http://user:planted@127.0.0.1:1").unwrap();
        assert!(!format!("{shown} {shown:?}").contains("planted"));
    }

    #[test]
    fn this_machine_is_known_by_four_names() {
        for (url, local) in [
            ("http://localhost:1", true),
            ("https://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://172.21.0.1:1", true),
            ("http://172.21.0.2:1", false),
            ("https://api.modal.com", false),
            ("unix:/run/modal.sock", false),
        ] {
            assert_eq!(Address::parse(url).unwrap().is_local(), local, "{url}");
        }
    }
}
