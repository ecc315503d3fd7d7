//! Answers that the door gives by itself, in the shape that clients of OpenAI's API understand.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};

use super::body::Body;

/// An answer on its way to the outside.
pub(crate) type Answer = Response<Body>;

/// Why a request does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) why: &'static str,
}

impl Refusal {
    pub(crate) fn answer(self) -> Answer {
        let mut answer = refuse(self.status, self.why);
        if self.status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// `{"error": {"message", "type", "code"}}`.
pub(crate) fn refuse(status: StatusCode, why: &str) -> Answer {
    refuse_as("door_error", status, why)
}

/// A task's budget is spent. 402 and not 429, which clients would send again and again.
pub(crate) fn overdrawn(spent: f64, budget: Option<f64>) -> Answer {
    let budget = budget.unwrap_or_default();
    let why = format!("the budget of this key is spent: {spent:.6} of {budget:.6} US dollars");
    refuse_as("budget_exceeded", StatusCode::PAYMENT_REQUIRED, &why)
}

fn refuse_as(kind: &str, status: StatusCode, why: &str) -> Answer {
    let error = serde_json::json!({
        "error": { "message": why, "type": kind, "param": null, "code": status.as_str() }
    });
    let mut answer = done(&error);
    *answer.status_mut() = status;
    answer
}

/// What the door itself was asked for.
pub(crate) fn done(value: &serde_json::Value) -> Answer {
    let text = Bytes::from(value.to_string());
    let mut answer = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Too many requests at a time.
pub(crate) fn busy() -> Answer {
    let mut answer =
        refuse(StatusCode::TOO_MANY_REQUESTS, "too many requests at a time: try again in a second");
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}
