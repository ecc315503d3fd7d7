//! The way through a proxy: which one, and the CONNECT with which it is asked for a tunnel.
//!
//! As in Modal's Python client, `HTTPS_PROXY` counts for `https://` servers, `HTTP_PROXY` for `http://` ones and
//! `ALL_PROXY` for both; `NO_PROXY` names hosts that are reached directly. This machine itself always is: a
//! proxy's loopback is another one.

use std::{io, sync::Arc};

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Address;
use crate::config::{ConfigError, Proxies};

/// Never through a proxy.
pub(crate) const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";
/// The longest answer to a CONNECT that is read.
const ANSWER: usize = 8 * 1024;

/// Which proxy leads to which server.
#[derive(Clone)]
pub(crate) struct Rules(Arc<Matcher>);

impl Rules {
    /// # Errors
    /// A proxy's URL is not one, or of a kind that is not supported; the error does not show it.
    pub(crate) fn new(proxies: &Proxies) -> Result<Self, ConfigError> {
        let mut rules = Matcher::builder().no(format!("{LOOPBACK},{}", proxies.no_proxy()));
        if let Some(url) = &proxies.http {
            rules = rules.http(checked("HTTP_PROXY", url.expose())?);
        }
        if let Some(url) = &proxies.https {
            rules = rules.https(checked("HTTPS_PROXY", url.expose())?);
        }
        if let Some(url) = &proxies.all {
            rules = rules.all(checked("ALL_PROXY", url.expose())?);
        }
        Ok(Self(Arc::new(rules.build())))
    }

    /// The proxy to `address`; `None` is the direct way.
    pub(super) fn way_to(&self, address: &Address) -> Option<Intercept> {
        let Address::Tcp { .. } = address else { return None };
        self.0.intercept(&address.uri().parse().ok()?)
    }
}

/// A proxy's URL, which may be written without a scheme.
pub(crate) fn checked(setting: &'static str, url: &str) -> Result<String, ConfigError> {
    let invalid =
        |problem| ConfigError::InvalidValue { setting, value: "****".to_owned(), problem };
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = full.parse().map_err(|_| invalid("expected the URL of a proxy"))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some() => Ok(full),
        _ => Err(invalid(
            "only `http://` and `https://` proxies are supported; `MODAL_DISABLE_API_PROXY=1` goes without one",
        )),
    }
}

/// A proxy's host and port; a proxy without a port listens on its scheme's.
pub(super) fn target(proxy: &Intercept) -> (bool, String, u16) {
    let uri = proxy.uri();
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    (tls, host, port)
}

/// Asks the proxy at the other end of `io` for a tunnel to `host:port` and reads no byte more than its answer.
pub(super) async fn tunnel(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &Intercept,
    host: &str,
    port: u16,
) -> io::Result<()> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut request =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(authorization) = proxy.basic_auth() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    io.write_all(&request).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == ANSWER {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        answer.push(io.read_u8().await?);
    }
    let status = String::from_utf8_lossy(&answer);
    let status = status.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let (_, proxy, port) = target(proxy);
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the proxy at `{proxy}:{port}` refused: {status}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(variables: &[(&str, &str)]) -> Result<Rules, ConfigError> {
        let environ = crate::Environ::from_pairs(variables.iter().copied());
        Rules::new(&Proxies::of_environ(&environ, None))
    }

    fn way(rules: &Rules, url: &str) -> Option<String> {
        let (_, host, port) = target(&rules.way_to(&Address::parse(url).unwrap())?);
        Some(format!("{host}:{port}"))
    }

    #[test]
    fn each_scheme_has_its_proxy_and_all_stands_in() {
        let both = rules(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "h")]).unwrap();
        assert_eq!(way(&both, "https://api.modal.com").as_deref(), Some("s:1"));
        assert_eq!(way(&both, "http://api.modal.com").as_deref(), Some("h:80"));
        let all = rules(&[("ALL_PROXY", "https://a"), ("HTTPS_PROXY", "http://s:1")]).unwrap();
        assert_eq!(way(&all, "https://api.modal.com").as_deref(), Some("s:1"));
        assert_eq!(way(&all, "http://api.modal.com").as_deref(), Some("a:443"));
        assert_eq!(way(&rules(&[]).unwrap(), "https://api.modal.com"), None);
    }

    #[test]
    fn hosts_that_are_excepted_and_this_machine_are_reached_directly() {
        let rules =
            rules(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", ".corp.example, 10.0.0.0/8")])
                .unwrap();
        for direct in [
            "https://modal.corp.example",
            "http://10.1.2.3:80",
            "http://127.0.0.1:1",
            "http://[::1]:1",
            "http://localhost:1",
            "unix:/run/modal.sock",
        ] {
            assert_eq!(way(&rules, direct), None, "{direct}");
        }
        assert!(way(&rules, "https://api.modal.com").is_some());
    }

    #[test]
    fn modals_own_switch_turns_proxies_off() {
        for (value, is_off) in [("1", true), ("true", true), ("0", false), ("false", false)] {
            let rules =
                rules(&[("ALL_PROXY", "http://p:1"), ("MODAL_DISABLE_API_PROXY", value)]).unwrap();
            assert_eq!(way(&rules, "https://api.modal.com").is_none(), is_off, "{value}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_by_its_setting_alone() {
        for url in ["socks5://user:planted@p:1", "http://user:planted@", "http://us er:planted@p"] {
            let error = rules(&[("ALL_PROXY", url)]).err().unwrap().to_string();
            assert!(error.contains("ALL_PROXY") && !error.contains("planted"), "{error}");
        }
    }
}
