//! Why the model gave no answer.

use super::{
    refusal::{Refusal, TooLong},
    retry::ATTEMPTS,
};
use crate::secret::Redactor;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the model gave no answer. Each message is one line that says what to do; none holds a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The address can't be used at all.
    #[error("OPENAI_BASE_URL `{url}` is no address of the form http://HOST/v1")]
    BadUrl {
        /// The address, without credentials.
        url: String,
    },
    /// The key holds characters that can't be sent, or the client can't be made.
    #[error("cannot make a request: {reason}")]
    CannotAsk {
        /// What is wrong.
        reason: &'static str,
    },
    /// 401 or 403.
    #[error(
        "the model endpoint `{url}` refuses the key ({status}): {message}; check OPENAI_API_KEY"
    )]
    KeyRefused {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The endpoint does not have this model.
    #[error(
        "the model endpoint `{url}` does not know model `{model}` ({status}): {message}; check --model or EVAL_MODEL"
    )]
    UnknownModel {
        /// Where.
        url: String,
        /// The model that was asked for.
        model: String,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// There is a server, but no chat completions at this address.
    #[error(
        "nothing at `{url}` ({status}): {message}; check OPENAI_BASE_URL, which usually ends in /v1"
    )]
    NoEndpoint {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The conversation does not fit into the model's context window.
    #[error("the conversation is too long for model `{model}` ({status}): {message}")]
    TooLong {
        /// The model that was asked.
        model: String,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
        /// The server's figures.
        figures: TooLong,
    },
    /// The request is not accepted as it is.
    #[error("the model endpoint `{url}` refuses the request ({status}): {message}")]
    Refused {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The server is overloaded or broken, also after retries.
    #[error(
        "the model endpoint `{url}` failed (attempt {attempts} of {ATTEMPTS}) with {status}: {message}"
    )]
    Unavailable {
        /// Where.
        url: String,
        /// How often it was asked.
        attempts: u32,
        /// The last HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// No connection, also after retries.
    #[error(
        "cannot reach the model endpoint `{url}` (attempt {attempts} of {ATTEMPTS}), check OPENAI_BASE_URL"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// Why.
        source: Cause,
    },
    /// Answers began and broke off, also after retries.
    #[error(
        "the answer of the model endpoint `{url}` broke off (attempt {attempts} of {ATTEMPTS})"
    )]
    BrokenStream {
        /// Where.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// Why.
        source: Cause,
    },
    /// The model answered with neither text nor calls, again and again.
    #[error("model `{model}` gave an empty answer twice")]
    Empty {
        /// The model that was asked.
        model: String,
    },
}

/// Why a connection failed. It shows the innermost cause, which says it all, and keeps the layers around it.
#[derive(Debug)]
pub struct Cause(pub BoxError);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut root: &dyn std::error::Error = self.0.as_ref();
        while let Some(source) = root.source() {
            root = source;
        }
        std::fmt::Display::fmt(root, f)
    }
}

impl std::error::Error for Cause {}

/// The error for a status that no retry mends. `body` is what the server said.
pub(crate) fn refusal(
    url: &str,
    model: &str,
    status: u16,
    body: &str,
    redactor: &Redactor,
) -> ModelError {
    let (url, message) = (url.to_owned(), redactor.clean(&server_message(body)));
    if let Some(figures) = Refusal::read(status, body).too_long() {
        return ModelError::TooLong { model: model.to_owned(), status, message, figures };
    }
    let about_model = is_about_the_model(body);
    match status {
        401 | 403 => ModelError::KeyRefused { url, status, message },
        400 | 404 if about_model => {
            ModelError::UnknownModel { url, model: model.to_owned(), status, message }
        }
        404 | 405 => ModelError::NoEndpoint { url, status, message },
        _ => ModelError::Refused { url, status, message },
    }
}

/// The server's own words out of the error bodies that are around, on one line of bearable length.
pub(crate) fn server_message(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let error = &value["error"];
    let known = [&error["message"], error, &value["message"], &value["detail"]];
    let message = known.iter().find_map(|it| it.as_str()).unwrap_or(body);
    match crate::progress::shorten(&message.split_whitespace().collect::<Vec<_>>().join(" "), 300) {
        empty if empty.is_empty() => "no reason given".to_owned(),
        message => message,
    }
}

/// OpenAI says `model_not_found`, vLLM "The model … does not exist", LiteLLM "Invalid model name", Azure
/// `DeploymentNotFound`.
fn is_about_the_model(body: &str) -> bool {
    let body = body.to_ascii_lowercase();
    let words = [
        "model_not_found",
        "invalid model name",
        "deploymentnotfound",
        "unknown model",
        "no such model",
    ];
    let missing = ["not exist", "not found", "not available", "no healthy deployment"];
    words.iter().any(|word| body.contains(word))
        || (body.contains("model") && missing.iter().any(|word| body.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn told(status: u16, body: &str) -> String {
        let redactor = Redactor::new([Secret::new("sk-planted-key")]);
        refusal("http://h/v1", "m", status, body, &redactor).to_string()
    }

    #[test]
    fn each_refusal_says_what_to_check() {
        insta::assert_snapshot!(
            [
                told(401, r#"{"error": {"message": "Incorrect API key provided: sk-planted-key"}}"#),
                told(404, r#"{"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}"#),
                told(400, r#"{"error": {"message": "Invalid model name passed in model=m"}}"#),
                told(404, "<html>\n<h1>nothing here</h1>"),
                told(400, r#"{"detail": "tools\nare not supported"}"#),
                told(422, ""),
                told(413, ""),
            ]
            .join("\n"), @r#"
        the model endpoint `http://h/v1` refuses the key (401): Incorrect API key provided: [redacted]; check OPENAI_API_KEY
        the model endpoint `http://h/v1` does not know model `m` (404): The model `m` does not exist; check --model or EVAL_MODEL
        the model endpoint `http://h/v1` does not know model `m` (400): Invalid model name passed in model=m; check --model or EVAL_MODEL
        nothing at `http://h/v1` (404): <html> <h1>nothing here</h1>; check OPENAI_BASE_URL, which usually ends in /v1
        the model endpoint `http://h/v1` refuses the request (400): tools are not supported
        the model endpoint `http://h/v1` refuses the request (422): no reason given
        the conversation is too long for model `m` (413): no reason given
        "#);
    }
}
