//! Requests that the door answers by itself.

use eval_types::RunId;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::answer::{Answer, Refusal, done, refuse};
use super::path::Path;
use super::{Shared, credentials};
use crate::plan::Access;

const REVOKE: &str = "/goat/keys/revoke";
const SPENT: &str = "/goat/keys/spent";
/// Far more than a name takes.
const MAX_BODY: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    run: RunId,
}

/// Whether the door answers that path, if it takes tokens of tasks.
pub(super) fn is_own(path: &Path<'_>) -> bool {
    [REVOKE, SPENT].contains(&path.to_string().as_str())
}

impl Shared {
    /// Revokes the keys of a run, or says what tasks have spent.
    pub(super) async fn own(&self, request: Request<Incoming>) -> Answer {
        if let Err(refusal) = self.keys.allow(Access::Admin, credentials::of(request.headers())) {
            return refusal.answer();
        }
        let is_spent = request.uri().path() == SPENT;
        if request.method() != if is_spent { Method::GET } else { Method::POST } {
            let why = "not with this method";
            return Refusal { status: StatusCode::METHOD_NOT_ALLOWED, why }.answer();
        }
        if is_spent { self.spent() } else { self.revoke(request).await }
    }

    /// What tasks whose keys still live have spent.
    fn spent(&self) -> Answer {
        match &self.budgets {
            Some(budgets) => done(&serde_json::json!({ "spent": budgets.spent() })),
            None => refuse(StatusCode::NOT_FOUND, "this door keeps no budgets"),
        }
    }

    async fn revoke(&self, request: Request<Incoming>) -> Answer {
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let Ok(Revoke { run }) = serde_json::from_slice(&body) else {
            return refuse(
                StatusCode::BAD_REQUEST,
                "the body must be {\"run\": \"<id of the run>\"}",
            );
        };
        let Some(tasks) = self.keys.tasks() else {
            return refuse(StatusCode::NOT_FOUND, "no such route");
        };
        match tasks.revoke(run.clone()) {
            Ok(()) => {
                self.log.say(format!("{}: the keys of run {run} are revoked", self.name));
                done(&serde_json::json!({ "revoked": run }))
            }
            Err(error) => {
                self.log.say(format!("{}: {REVOKE}: {error}", self.name));
                refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the list of revoked runs can't be written",
                )
            }
        }
    }
}
