//! LiteLLM's own refusal of a call for which a budget has no room left.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;

use crate::door::answer::{Answer, refuse};

/// No refusal is longer.
const LONGEST: usize = 64 * 1024;

#[derive(Deserialize)]
struct Refused {
    error: Kind,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// Makes a 402 of the 429 by which LiteLLM 1.102 and 1.109 refuse a call that may cost more than is left: clients send
/// a 429 again and again, and no later try can mend this. Every other answer stays as it is.
pub(in crate::door) async fn as_final(answer: Answer) -> Answer {
    if answer.status() != StatusCode::TOO_MANY_REQUESTS {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let Ok(body) = Limited::new(body, LONGEST).collect().await else {
        return refuse(StatusCode::BAD_GATEWAY, "the service's refusal could not be read");
    };
    let body = body.to_bytes();
    if is_of_budget(&body) {
        head.status = StatusCode::PAYMENT_REQUIRED;
        head.headers.remove(RETRY_AFTER);
    }
    Response::from_parts(head, Full::new(body).map_err(|never| match never {}).boxed_unsync())
}

fn is_of_budget(body: &Bytes) -> bool {
    serde_json::from_slice(body).is_ok_and(|Refused { error }| error.kind == "budget_exceeded")
}
