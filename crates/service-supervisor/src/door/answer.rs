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
    let (spent, budget) = (dollars(spent), dollars(budget.unwrap_or_default()));
    let why = format!("the budget of this key is spent: {spent} of {budget} US dollars");
    refuse_as("budget_exceeded", StatusCode::PAYMENT_REQUIRED, &why)
}

/// An amount of money with cents at least and three digits that say something.
fn dollars(usd: f64) -> String {
    let leading = if usd > 0.0 { usd.log10().floor() } else { 0.0 };
    let decimals = (2.0 - leading).clamp(2.0, 15.0) as usize;
    let text = format!("{usd:.decimals$}");
    let zeros = text.len() - text.trim_end_matches('0').len();
    text[..text.len() - zeros.min(decimals - 2)].to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_amounts_can_be_told_apart() {
        let shown = [0.000_000_4, 0.000_001_05, 0.1 + 0.2, 12.5, 1234.567, 0.0, 1e-30].map(dollars);
        let wanted = ["0.0000004", "0.00000105", "0.30", "12.50", "1234.57", "0.00", "0.00"];
        assert_eq!(shown, wanted);
    }
}
