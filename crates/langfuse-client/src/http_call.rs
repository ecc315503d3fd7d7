//! One call: builds the request, sends it as often as the policy allows, turns the answer into a value or an error.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::{
    client::Client,
    error::{Error, Result, ServerAnswer},
    retry::{Resend, retry_after},
};

/// Longest part of a server's words that is kept in an error.
const MESSAGE_CHARS: usize = 2_000;

/// A request, before it is known how often it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    operation: &'static str,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    resend: Resend,
    authorized: bool,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// A call of `/api/public/<segments>`; each segment is percent-encoded once.
    pub(crate) fn new(
        client: &Client,
        operation: &'static str,
        method: Method,
        segments: &[&str],
    ) -> Self {
        let mut url = client.config().base_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "public"]).extend(segments);
        }
        let resend = if method == Method::GET { Resend::Safe } else { Resend::OnlyIfRefused };
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { operation, method, url, headers, body, resend, authorized: true }
    }

    pub(crate) fn get(client: &Client, operation: &'static str, segments: &[&str]) -> Self {
        Self::new(client, operation, Method::GET, segments)
    }

    pub(crate) fn query(mut self, pairs: &[(&'static str, String)]) -> Self {
        if !pairs.is_empty() {
            self.url.query_pairs_mut().extend_pairs(pairs);
        }
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self> {
        let operation = self.operation;
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::Unreadable { operation, source: error.into() })?;
        Ok(self.bytes("application/json", body.into()))
    }

    pub(crate) fn bytes(mut self, content_type: &'static str, body: Bytes) -> Self {
        self.body = body;
        self.header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// Sending it twice does no harm.
    pub(crate) fn resend_is_safe(mut self) -> Self {
        self.resend = Resend::Safe;
        self
    }

    /// Without keys.
    pub(crate) fn anonymous(mut self) -> Self {
        self.authorized = false;
        self
    }

    /// Sends and reads a JSON answer.
    pub(crate) async fn read<T: DeserializeOwned>(self, client: &Client) -> Result<T> {
        let operation = self.operation;
        let answer = self.succeed(client).await?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| Error::Unreadable { operation, source: error.into() })
    }

    /// Sends; any status but 2xx is an error.
    pub(crate) async fn succeed(self, client: &Client) -> Result<Answer> {
        let (answer, attempts) = self.send(client).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(refusal(self.operation, attempts, &answer))
    }

    /// Sends, and hands on whatever the last attempt was answered, with the number of attempts.
    pub(crate) async fn send(&self, client: &Client) -> Result<(Answer, u32)> {
        let policy = &client.config().retry;
        let mut attempt = 1;
        loop {
            let outcome = self.once(client).await;
            let (again, asked) = match &outcome {
                Ok(answer) => {
                    (self.resend.allows_status(answer.status), retry_after(&answer.headers))
                }
                Err(error) => (self.resend.allows_failure(error), None),
            };
            let wait = if again { policy.wait(attempt + 1, asked) } else { None };
            let Some(wait) = wait else {
                return match outcome {
                    Ok(answer) => Ok((answer, attempt)),
                    Err(error) => Err(self.unreachable(client, attempt, error)),
                };
            };
            tracing::debug!(
                operation = self.operation,
                attempt,
                ?wait,
                "Langfuse call is repeated"
            );
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    async fn once(&self, client: &Client) -> Result<Answer, reqwest::Error> {
        let mut request = client
            .http()
            .request(self.method.clone(), self.url.clone())
            .timeout(client.config().timeout)
            .body(self.body.clone());
        if self.authorized {
            request = request.headers(client.identity().clone());
        }
        // What the call says of itself counts before what the client says of all.
        let answer = request.headers(self.headers.clone()).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Answer { status, headers, body: answer.bytes().await? })
    }

    fn unreachable(&self, client: &Client, attempts: u32, error: reqwest::Error) -> Error {
        Error::Unreachable {
            operation: self.operation,
            url: client.config().base_url.to_string(),
            attempts,
            source: error.without_url().into(),
        }
    }
}

/// The error for an answer that is no success.
pub(crate) fn refusal(operation: &'static str, attempts: u32, answer: &Answer) -> Error {
    let source = ServerAnswer { status: answer.status.as_u16(), message: message(&answer.body) };
    match source.status {
        401 => Error::Auth { operation, source },
        403 => Error::Forbidden { operation, source },
        404 => Error::NotFound { operation, source },
        413 => Error::TooLarge { operation, source },
        429 => {
            let retry_after = retry_after(&answer.headers);
            Error::RateLimited { operation, retry_after, source }
        }
        500.. => Error::Server { operation, attempts, source },
        _ => Error::Refused { operation, source },
    }
}

/// The server's words: `message`, with `error` or `errors` where they add to it, else the body as text.
fn message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(serde_json::Value::Object(fields)) => {
            let words = ["message", "error", "errors"].into_iter().filter_map(|key| {
                let value = fields.get(key)?;
                Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            });
            let words: Vec<String> = words.collect();
            if words.is_empty() {
                String::from_utf8_lossy(body).into_owned()
            } else {
                words.join("; ")
            }
        }
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().take(MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_kept_in_every_shape() {
        let zod = br#"{"message":"Invalid request data","error":[{"path":["limit"]}]}"#;
        assert_eq!(message(zod), r#"Invalid request data; [{"path":["limit"]}]"#);
        assert_eq!(message(b"429 - rate limit exceeded"), "429 - rate limit exceeded");
        assert_eq!(message(br#"{"error":"bad protobuf"}"#), "bad protobuf");
        assert_eq!(message(b"[1]"), "[1]");
    }
}
