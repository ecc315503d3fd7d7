//! Asks the model, and again where that makes sense.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{
    Response, Url,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
        RETRY_AFTER,
    },
    redirect,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    ChatRequest, Completion, ModelError,
    assemble::AssembleError,
    dialect::Dialect,
    error::{Cause, refusal as refusal_error, server_message},
    hosts::Hosts,
    receive::Receiver,
    refusal::Refusal,
    retry::{self, ATTEMPTS},
    unpack::Unpacker,
};
use crate::{error::one_line, secret::Redactor, settings::Endpoint, trace::Trace};

/// Time to get a connection. A server that takes longer is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence on a connection before it counts as broken. A model on a GPU that has to start takes minutes to its
/// first byte.
const SILENCE: Duration = Duration::from_secs(900);

/// How long a server may take to end an answer that has said all.
const END: Duration = Duration::from_millis(200);

/// Bytes of an error's body that are read.
const ERROR_BODY: usize = 64 << 10;

/// Time for an error's body.
const ERROR_TIME: Duration = Duration::from_secs(30);

/// A connection to one model endpoint.
#[derive(Debug)]
pub struct ModelClient {
    http: reqwest::Client,
    completions: Url,
    /// The base address without credentials, for people.
    shown: String,
    redactor: Redactor,
    /// What this server has taught.
    dialect: Mutex<Dialect>,
}

/// What happens on the way to an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A request goes out; one with the same body, after a failure, is not told again.
    Sent {
        /// All fields of the body but messages and tools.
        parameters: Map<String, Value>,
        /// SHA-256 of the body as it is sent, in hex.
        sha256: String,
    },
    /// An attempt failed and will be made again.
    Retried {
        /// The attempt that failed, from 1.
        attempt: u32,
        /// Why, on one line.
        error: String,
        /// Time until the next one.
        delay: Duration,
    },
    /// The server refused the form of the request, which is sent again in another one.
    Adapted {
        /// The refusal, on one line.
        error: String,
        /// What is done differently from here on.
        change: String,
    },
}

/// A stream with nothing but comments in it.
#[derive(Debug, thiserror::Error)]
#[error("no part of an answer came for half an hour")]
struct Stalled;

/// One failed attempt.
struct Failure {
    error: ModelError,
    transient: bool,
    retry_after: Option<Duration>,
    /// What the server said, where it refused.
    refusal: Option<Refusal>,
}

impl Failure {
    fn transient(error: ModelError) -> Self {
        Failure { error, transient: true, retry_after: None, refusal: None }
    }
}

impl ModelClient {
    /// Prepares to ask `endpoint`; nothing is sent yet. What errors quote is cleaned by `redactor`.
    /// Each request carries the header of `trace`.
    pub fn new(endpoint: &Endpoint, trace: &Trace, redactor: Redactor) -> Result<Self, ModelError> {
        let (completions, shown) = addresses(&endpoint.base_url)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", endpoint.api_key.expose()))
            .map_err(|_| ModelError::CannotAsk {
                reason: "OPENAI_API_KEY holds a character that no header may have",
            })?;
        bearer.set_sensitive(true);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config::client_config())
            .dns_resolver(Hosts::default())
            .default_headers(headers(bearer, trace))
            .user_agent(concat!("goat-eval/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .redirect(same_origin_only())
            .build()
            .map_err(|_| ModelError::CannotAsk { reason: "the HTTP client cannot be set up" })?;
        let dialect = Mutex::default();
        Ok(ModelClient { http, completions, shown, redactor, dialect })
    }

    /// The address without credentials.
    pub fn shown_url(&self) -> &str {
        &self.shown
    }

    /// Asks until there is an answer, the server refuses, or the attempts are used up.
    ///
    /// Each attempt sends the whole request again and starts from an empty answer, so a stream that broke in the
    /// middle leaves nothing behind. A refusal of the request's form is no attempt: each teaches something new, so
    /// there are only so many. `notice` hears of each request, retry and change.
    pub async fn complete(
        &self,
        request: &ChatRequest<'_>,
        mut notice: impl FnMut(Notice),
    ) -> Result<Completion, ModelError> {
        let mut body = request.body(&self.dialect());
        let mut bytes = self.sendable(&body, &mut notice)?;
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(request, bytes.clone(), attempt).await {
                Ok(completion) => return Ok(completion),
                Err(failure) => failure,
            };
            let error = self.redactor.clean(&one_line(&failure.error));
            let learned = failure.refusal.and_then(|it| self.dialect().learn(&it, &body));
            if let Some(change) = learned {
                notice(Notice::Adapted { error, change });
                body = request.body(&self.dialect());
                bytes = self.sendable(&body, &mut notice)?;
                continue;
            }
            if !failure.transient || attempt == ATTEMPTS {
                return Err(failure.error);
            }
            let delay = retry::delay(attempt, failure.retry_after, retry::chance());
            notice(Notice::Retried { attempt, error, delay });
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    fn sendable(
        &self,
        body: &Map<String, Value>,
        notice: &mut impl FnMut(Notice),
    ) -> Result<Bytes, ModelError> {
        let bytes = serde_json::to_vec(body)
            .map_err(|_| ModelError::CannotAsk { reason: "the conversation is no JSON" })?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let left_out = |name: &str| matches!(name, "messages" | "tools");
        let parameters = body.iter().filter(|(name, _)| !left_out(name));
        let parameters = parameters.map(|(name, value)| (name.clone(), value.clone())).collect();
        notice(Notice::Sent { parameters, sha256 });
        Ok(bytes.into())
    }

    fn dialect(&self) -> MutexGuard<'_, Dialect> {
        self.dialect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(
        &self,
        request: &ChatRequest<'_>,
        body: Bytes,
        attempts: u32,
    ) -> Result<Completion, Failure> {
        let post = self.http.post(self.completions.clone());
        let post = post.header(CONTENT_TYPE, "application/json").body(body);
        let response = match post.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.not_sent(error, attempts)),
        };
        if !response.status().is_success() {
            return self.refused(response, request, attempts).await;
        }
        self.read(response, request.model(), attempts).await
    }

    fn not_sent(&self, error: reqwest::Error, attempts: u32) -> Failure {
        let error = error.without_url();
        let (connects, transient) =
            (error.is_connect(), !error.is_redirect() && !error.is_builder());
        let (url, source) = (self.shown.clone(), Cause(error.into()));
        let error = if connects {
            ModelError::Unreachable { url, attempts, source }
        } else {
            ModelError::BrokenStream { url, attempts, source }
        };
        Failure { error, transient, retry_after: None, refusal: None }
    }

    /// The failure that a status stands for; or the answer, where the server shows what the model wrote and only
    /// could not read the call in it.
    async fn refused(
        &self,
        response: Response,
        request: &ChatRequest<'_>,
        attempts: u32,
    ) -> Result<Completion, Failure> {
        let status = response.status().as_u16();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after =
            header.and_then(|value| retry::retry_after(value, jiff::Timestamp::now()));
        let body = error_body(response).await;
        let failure = self.failure(status, &body, request.model(), attempts);
        let written = failure.refusal.as_ref().and_then(|it| it.failed_generation.clone());
        if let Some(text) = written {
            let completion = Completion { text, ..Completion::default() };
            let mut understood = completion.clone();
            understood.understand(&request.callable());
            if !understood.tool_calls.is_empty() {
                return Ok(completion);
            }
        }
        Err(Failure { retry_after, ..failure })
    }

    fn failure(&self, status: u16, body: &str, model: &str, attempts: u32) -> Failure {
        let told = Refusal::read(status, body);
        let transient =
            (retry::is_transient(status) && told.too_long().is_none()) || told.is_failed_call;
        let refusal = Some(told);
        if !transient {
            let error = refusal_error(&self.shown, model, status, body, &self.redactor);
            return Failure { error, transient, retry_after: None, refusal };
        }
        let message = self.redactor.clean(&server_message(body));
        let error = ModelError::Unavailable { url: self.shown.clone(), attempts, status, message };
        Failure { error, transient, retry_after: None, refusal }
    }

    /// Reads the answer. What breaks after the model's last word breaks nothing of it.
    async fn read(
        &self,
        mut response: Response,
        model: &str,
        attempts: u32,
    ) -> Result<Completion, Failure> {
        let broken = |error| self.broken(error, model, attempts);
        let mut receiver = Receiver::new(packing(&response), Instant::now()).map_err(broken)?;
        while !receiver.is_done() {
            let next = tokio::time::timeout_at(receiver.deadline().into(), response.chunk());
            match next.await {
                Ok(Ok(Some(bytes))) => receiver.feed(&bytes, Instant::now()).map_err(broken)?,
                Ok(Ok(None)) => break,
                _ if receiver.is_answered() => break,
                Ok(Err(error)) => return Err(self.cut_off(error, attempts)),
                Err(_) => return Err(self.broke_off(Stalled, attempts)),
            }
        }
        if receiver.is_done() {
            let_end(&mut response).await;
        }
        receiver.finish().map_err(broken)
    }

    fn cut_off(&self, error: reqwest::Error, attempts: u32) -> Failure {
        self.broke_off(error.without_url(), attempts)
    }

    fn broke_off(
        &self,
        error: impl std::error::Error + Send + Sync + 'static,
        attempts: u32,
    ) -> Failure {
        let source = Cause(Box::new(error));
        Failure::transient(ModelError::BrokenStream { url: self.shown.clone(), attempts, source })
    }

    fn broken(&self, error: AssembleError, model: &str, attempts: u32) -> Failure {
        match error {
            AssembleError::Reported { message, status: Some(status) } => {
                self.failure(status, &message, model, attempts)
            }
            // Without a status, only what is said of the length can be told from a passing failure.
            AssembleError::Reported { message, .. }
                if Refusal::read(400, &message).too_long().is_some() =>
            {
                self.failure(400, &message, model, attempts)
            }
            AssembleError::TooLarge | AssembleError::Packed(_) => {
                Failure { transient: false, ..self.broke_off(error, attempts) }
            }
            error => self.broke_off(error, attempts),
        }
    }
}

/// Reads to the end of an answer that has said all: servers and proxies on the way take a caller who hangs up before
/// for one who lost patience, and log it, and the connection could not be used again. One that never ends is left alone.
async fn let_end(response: &mut Response) {
    let end = async { while let Ok(Some(_)) = response.chunk().await {} };
    // Whatever comes of it, the answer is whole.
    let _ = tokio::time::timeout(END, end).await;
}

fn headers(bearer: HeaderValue, trace: &Trace) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([
        (AUTHORIZATION, bearer),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    ]);
    let parent = trace.parent.as_deref().and_then(|parent| HeaderValue::from_str(parent).ok());
    if let Some(parent) = parent {
        headers.insert("traceparent", parent);
    }
    headers
}

/// The address that requests go to, and the base address as it may be shown.
fn addresses(base_url: &str) -> Result<(Url, String), ModelError> {
    let bad = || ModelError::BadUrl { url: without_credentials(base_url) };
    let base = Url::parse(base_url).map_err(|_| bad())?;
    let completions = Url::parse(&format!("{base_url}/chat/completions")).map_err(|_| bad())?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(bad());
    }
    Ok((completions, without_credentials(base_url)))
}

/// The text of an address without what may be secret in it: user, password, query.
fn without_credentials(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match (plain.find("://"), plain.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}{}", &plain[..scheme + 3], &plain[at + 1..])
        }
        _ => plain.to_owned(),
    }
}

/// Modal answers a long request with redirects to the same address; to another host, port or scheme the prompt and the
/// key must not go.
fn same_origin_only() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let first = attempt.previous().first().map(Url::origin);
        if attempt.previous().len() > 20 {
            attempt.error("too many redirects")
        } else if first.as_ref() == Some(&attempt.url().origin()) {
            attempt.follow()
        } else {
            attempt.error("redirected to another server, which is not followed")
        }
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How the body is packed.
fn packing(response: &Response) -> &str {
    let header = response.headers().get(CONTENT_ENCODING);
    header.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The beginning of an error's body, as far as it comes in time.
async fn error_body(mut response: Response) -> String {
    let mut body = Vec::new();
    let Ok(mut unpacker) = Unpacker::of(packing(&response)) else { return String::new() };
    let reading = async {
        while let Ok(Some(bytes)) = response.chunk().await {
            let unpacked = unpacker.unpack(&bytes, |plain| {
                body.extend_from_slice(plain);
                Ok(())
            });
            if unpacked.is_err() || body.len() > ERROR_BODY {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(ERROR_TIME, reading).await;
    String::from_utf8_lossy(&body).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_credentials() {
        assert_eq!(addresses("http://u:p@h:1/v1").unwrap().1, "http://h:1/v1");
        for bad in ["h/v1", "ftp://h/v1", "http://", ""] {
            assert!(addresses(bad).is_err(), "{bad}");
        }
    }
}
