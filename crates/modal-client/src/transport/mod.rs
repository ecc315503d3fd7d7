//! Connections: to the control plane, and to the command routers of sandboxes.

mod pool;

use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt as _};
pub(crate) use pool::{Lease, Pool};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::{
    config::ConfigError,
    error::{BoxError, Error, Result},
};

/// An address that does not answer is given up after this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);
/// The next address of a list is tried beside the ones before it after this long.
const HEAD_START: Duration = Duration::from_secs(3);
/// A refused connection is tried again this often: a server may just be starting.
const REFUSED_RETRIES: u32 = 2;
const WINDOW: u32 = 64 * 1024 * 1024;

/// How a server is spoken to.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint, ConfigError> {
    let invalid = |problem| ConfigError::InvalidValue {
        setting: "MODAL_SERVER_URL",
        value: without_credentials(url),
        problem,
    };
    let parsed = url::Url::parse(url)
        .map_err(|_| invalid("expected a URL such as `https://api.modal.com`"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(invalid("expected `http://HOST:PORT` or `https://HOST`"));
    }
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|_| invalid("expected a URL such as `https://api.modal.com`"))?
        .user_agent(concat!("modal-client-rs/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| invalid("the user agent is not valid"))?
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    if parsed.scheme() == "http" {
        return Ok(endpoint);
    }
    endpoint
        .tls_config(ClientTlsConfig::new().with_webpki_roots())
        .map_err(|_| invalid("TLS cannot be set up for it"))
}

fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => {
            format!("{}****{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}

/// The host of an address, for the header that names it.
pub(crate) fn host_of(url: &str) -> String {
    url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

/// Connects to the first of several addresses of one service that answers, within 10 seconds or never.
///
/// The first gets a head start of three seconds; a failure ends it at once.
pub(crate) async fn race(urls: &[String]) -> Result<(Channel, String)> {
    let started = Instant::now();
    let unreachable = |source: BoxError| Error::Unreachable {
        urls: urls
            .iter()
            .map(|url| format!("`{}`", without_credentials(url)))
            .collect::<Vec<_>>()
            .join(", "),
        waited: started.elapsed(),
        source,
    };
    let mut waiting = Vec::new();
    for url in urls.iter().rev() {
        waiting.push((url.clone(), endpoint(url)?));
    }
    let mut running = FuturesUnordered::new();
    let mut last: BoxError = Box::new(crate::error::Problem("no address is configured".to_owned()));
    let limit = tokio::time::sleep(CONNECT_LIMIT + Duration::from_secs(1));
    tokio::pin!(limit);
    loop {
        if let Some((url, endpoint)) = waiting.pop() {
            running.push(async move { (connect(endpoint).await, url) });
        }
        if running.is_empty() {
            return Err(unreachable(last));
        }
        let head_start = tokio::time::sleep(HEAD_START);
        tokio::select! {
            biased;
            Some((connected, url)) = running.next() => match connected {
                Ok(channel) => return Ok((channel, url)),
                Err(error) => last = error.into(),
            },
            () = &mut limit => return Err(unreachable(Box::new(crate::error::Problem(
                format!("no connection within {:?}", CONNECT_LIMIT + Duration::from_secs(1)),
            )))),
            () = head_start, if !waiting.is_empty() => {}
        }
    }
}

async fn connect(endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
    let mut delay = Duration::from_millis(100);
    for _ in 0..REFUSED_RETRIES {
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) => tracing::debug!(%error, "connecting failed and is tried again"),
        }
        tokio::time::sleep(delay).await;
        delay *= 3;
    }
    endpoint.connect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_listening_is_a_clear_error_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = race(std::slice::from_ref(&url)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("no Modal server answered at `{url}` within")), "{text}");
        assert!(error.is_transient());
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_fails() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dead = format!("http://{}", closed.local_addr().unwrap());
        drop(closed);
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let alive = format!("http://{}", open.local_addr().unwrap());
        let (_, taken) = race(&[dead, alive.clone()]).await.unwrap();
        assert_eq!(taken, alive);
    }

    #[test]
    fn a_bad_address_is_refused_and_its_credentials_hidden() {
        assert!(endpoint("http://127.0.0.1:1").is_ok());
        for url in ["127.0.0.1:1", "ftp://x", ""] {
            assert!(endpoint(url).is_err(), "{url} was accepted");
        }
        let error = endpoint("ftp://user:planted@x").unwrap_err().to_string();
        assert!(!error.contains("planted"), "{error}");
    }
}
