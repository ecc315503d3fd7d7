//! Plain HTTP beside gRPC: blocks and blobs go to addresses that the server hands out.
//!
//! Those addresses are credentials (they are signed), so no error shows more of them than the host.

use std::time::Duration;

use bytes::Bytes;

use secret_string::SecretString;
use tracing::Instrument as _;

use crate::{
    config::{Config, ConfigError, Proxies},
    error::{BoxError, Problem, Result},
    retry::RetryPolicy,
    transport::proxy::{self, LOOPBACK},
};

/// A transfer without progress ends after this long.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The HTTP client.
#[derive(Debug, Clone)]
pub(crate) struct Http(reqwest::Client);

/// An answer: what callers look at.
pub(crate) struct Answer {
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer whose body is as it came, in pieces: nothing is copied to make it one.
pub(crate) struct InPieces {
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<Bytes>,
}

impl From<InPieces> for Answer {
    fn from(InPieces { headers, mut body }: InPieces) -> Self {
        let whole = if body.len() == 1 { body.swap_remove(0) } else { body.concat().into() };
        Self { headers, body: whole }
    }
}

impl Http {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config::client_config())
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(IDLE_LIMIT)
            .no_proxy();
        for proxy in proxies(&config.proxies)? {
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|_| ConfigError::InvalidValue {
            setting: "HTTPS_PROXY",
            value: "****".to_owned(),
            problem: "no HTTP client can be made with it",
        })?;
        Ok(Self(client))
    }

    /// GETs a body; repeated on every failure but those that no repetition helps.
    pub(crate) async fn get(&self, url: &str, policy: RetryPolicy) -> Result<Answer, BoxError> {
        self.get_in_pieces(url, policy).await.map(Answer::from)
    }

    /// As [`get`](Self::get), for bodies that are large.
    pub(crate) async fn get_in_pieces(
        &self,
        url: &str,
        policy: RetryPolicy,
    ) -> Result<InPieces, BoxError> {
        retry(policy, || exchange(self.0.get(url))).await
    }

    /// GETs a body and hands it over while it comes; `take` is called anew at every repetition.
    pub(crate) async fn get_arriving<T, F: Future<Output = Result<T, BoxError>>>(
        &self,
        url: &str,
        policy: RetryPolicy,
        take: impl Fn(Arriving) -> F,
    ) -> Result<T, BoxError> {
        let attempt = || async {
            let (client, request, span) = prepare(self.0.get(url))?;
            let transfer = async { take(Arriving::of(client, request).await?).await };
            transfer.instrument(span).await
        };
        retry(policy, attempt).await
    }

    /// PUTs a body. Blocks are content-addressed, so sending one twice is harmless.
    pub(crate) async fn put(
        &self,
        url: &str,
        body: Bytes,
        headers: &http::HeaderMap,
        policy: RetryPolicy,
    ) -> Result<Answer, BoxError> {
        retry(policy, || {
            let length = body.len();
            let request = self.0.put(url).headers(headers.clone());
            exchange(request.header(http::header::CONTENT_LENGTH, length).body(body.clone()))
        })
        .await
        .map(Answer::from)
    }

    /// POSTs a body once.
    pub(crate) async fn post(&self, url: &str, body: Bytes) -> Result<Answer, BoxError> {
        exchange(self.0.post(url).body(body)).await.map(Answer::from)
    }
}

/// The proxies of blocks and blobs: those of the calls, by the same rules.
fn proxies(proxies: &Proxies) -> Result<Vec<reqwest::Proxy>, ConfigError> {
    let except = format!("{LOOPBACK},{}", proxies.no_proxy());
    let make =
        |setting, url: &SecretString, kind: fn(String) -> reqwest::Result<reqwest::Proxy>| {
            let made = kind(proxy::checked(setting, url.expose())?);
            let proxy = made.map_err(|_| ConfigError::InvalidValue {
                setting,
                value: "****".to_owned(),
                problem: "expected the URL of a proxy",
            })?;
            Ok(proxy.no_proxy(reqwest::NoProxy::from_string(&except)))
        };
    // The first that fits is taken.
    let mut made = Vec::new();
    if let Some(url) = &proxies.http {
        made.push(make("HTTP_PROXY", url, reqwest::Proxy::http)?);
    }
    if let Some(url) = &proxies.https {
        made.push(make("HTTPS_PROXY", url, reqwest::Proxy::https)?);
    }
    if let Some(url) = &proxies.all {
        made.push(make("ALL_PROXY", url, reqwest::Proxy::all)?);
    }
    Ok(made)
}

/// One attempt, in a span of its own.
async fn exchange(request: reqwest::RequestBuilder) -> Result<InPieces, BoxError> {
    let (client, request, span) = prepare(request)?;
    perform(client, request).instrument(span).await
}

/// What an attempt needs. The span names the host alone: the rest of such a URL is a credential.
fn prepare(
    request: reqwest::RequestBuilder,
) -> Result<(reqwest::Client, reqwest::Request, tracing::Span), BoxError> {
    let (client, request) = request.build_split();
    let request = request.map_err(without_url)?;
    let host = request.url().host_str().unwrap_or_default().to_owned();
    let span = tracing::debug_span!("http", method = %request.method(), host);
    Ok((client, request, span))
}

async fn perform(client: reqwest::Client, request: reqwest::Request) -> Result<InPieces, BoxError> {
    let mut answer = Arriving::of(client, request).await?;
    let mut body = Vec::new();
    while let Some(piece) = answer.piece().await? {
        body.push(piece);
    }
    Ok(InPieces { headers: answer.headers, body })
}

/// An answer that is not an error, whose body is still on its way.
pub(crate) struct Arriving {
    pub(crate) headers: http::HeaderMap,
    answer: reqwest::Response,
}

impl Arriving {
    async fn of(client: reqwest::Client, request: reqwest::Request) -> Result<Self, BoxError> {
        let answer = client.execute(request).await.map_err(without_url)?;
        let (status, host) = (answer.status(), host_of(&answer));
        if status.as_u16() < 400 {
            return Ok(Self { headers: answer.headers().clone(), answer });
        }
        let said = answer.bytes().await.map_err(without_url)?;
        let said: String = String::from_utf8_lossy(&said).chars().take(300).collect();
        Err(Box::new(Problem(format!("{host} answered {status}: {said}"))))
    }

    /// The next of its body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, BoxError> {
        self.answer.chunk().await.map_err(without_url)
    }
}

fn host_of(answer: &reqwest::Response) -> String {
    answer.url().host_str().unwrap_or("the server").to_owned()
}

fn without_url(error: reqwest::Error) -> BoxError {
    Box::new(error.without_url())
}

async fn retry<T, F: Future<Output = Result<T, BoxError>>>(
    policy: RetryPolicy,
    mut attempt: impl FnMut() -> F,
) -> Result<T, BoxError> {
    for n in 0..policy.retries {
        match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                tracing::debug!(%error, attempt = n + 1, "a transfer failed and is repeated");
                tokio::time::sleep(policy.jittered(n)).await;
            }
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_transfer_is_repeated_as_often_as_its_policy_says() {
        let sent = AtomicU32::new(0);
        let failing = || async {
            sent.fetch_add(1, Ordering::Relaxed);
            Err::<(), BoxError>("503".into())
        };
        let policy =
            RetryPolicy { first: std::time::Duration::from_millis(1), ..RetryPolicy::UPLOAD };
        let quick = RetryPolicy { cap: policy.first, ..policy };
        assert!(retry(quick, failing).await.is_err());
        assert_eq!(sent.load(Ordering::Relaxed), 11);
    }
}
