//! Sends a batch and settles each of its events.

use std::{collections::HashMap, mem};

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::answer::{IngestionAnswer, ItemError};
use crate::{
    client::{Client, SDK_NAME, SDK_VERSION},
    error::{Error, Result},
    http_call::Call,
    queue::{Deliver, Entry, Failure, Tally},
};

/// How batches reach the server.
#[derive(Debug)]
pub(super) struct Delivery {
    client: Client,
    item_attempts: u32,
}

impl Delivery {
    pub(super) fn new(client: Client, item_attempts: u32) -> Self {
        Self { client, item_attempts }
    }
}

impl Deliver for Delivery {
    async fn deliver(&self, batch: Vec<Entry>, tally: &Tally) {
        let mut parts = vec![(batch, 1)];
        while let Some((mut part, attempt)) = parts.pop() {
            match post(&self.client, &part).await {
                Ok(answer) => {
                    let last = attempt >= self.item_attempts;
                    let again = settle(part, &answer, last, tally);
                    if again.is_empty() {
                        continue;
                    }
                    let wait = self.client.config().retry.wait(attempt + 1, None);
                    tokio::time::sleep(wait.unwrap_or_default()).await;
                    parts.push((again, attempt + 1));
                }
                // Events go in their order, so the second half goes on the stack first.
                Err(Error::TooLarge { .. }) if part.len() > 1 => {
                    parts.push((part.split_off(part.len() / 2), attempt));
                    parts.push((part, attempt));
                }
                Err(error) => fail_all(part, &error, tally),
            }
        }
    }
}

/// Sends events that are written out.
pub(super) async fn post(client: &Client, batch: &[Entry]) -> Result<IngestionAnswer> {
    let call = Call::new(client, "send ingestion events", Method::POST, &["ingestion"]);
    // Events name what they write, so a second time changes nothing.
    call.resend_is_safe().bytes("application/json", request(client, batch)).read(client).await
}

/// `{"batch":[…],"metadata":{…}}`, with the metadata that SDK 2 sends.
fn request(client: &Client, batch: &[Entry]) -> Bytes {
    let metadata = json!({
        "batch_size": batch.len(),
        "sdk_integration": "default",
        "sdk_name": SDK_NAME,
        "sdk_version": SDK_VERSION,
        "public_key": client.config().public_key,
    });
    let size: usize = batch.iter().map(|entry| entry.payload.len() + 1).sum();
    let mut body = Vec::with_capacity(size + 300);
    body.extend_from_slice(br#"{"batch":["#);
    for (index, entry) in batch.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&entry.payload);
    }
    body.extend_from_slice(br#"],"metadata":"#);
    body.extend_from_slice(metadata.to_string().as_bytes());
    body.push(b'}');
    body.into()
}

/// Counts what the answer says of each event; hands back those to send again.
fn settle(batch: Vec<Entry>, answer: &IngestionAnswer, last: bool, tally: &Tally) -> Vec<Entry> {
    let taken = answer.successes.iter().map(|item| (item.id.as_str(), None));
    let refused = answer.errors.iter().map(|item| (item.id.as_str(), Some(item)));
    let verdicts: HashMap<&str, Option<&ItemError>> = taken.chain(refused).collect();
    let nameless = answer.errors.iter().find(|item| item.id == "unknown");
    let mut again = Vec::new();
    for mut entry in batch {
        let error = match verdicts.get(entry.id.as_str()) {
            Some(None) => {
                tally.delivered(1);
                continue;
            }
            Some(Some(error)) => Some(*error),
            None => nameless,
        };
        if error.is_some_and(|error| error.is_transient() && !last) {
            again.push(entry);
            continue;
        }
        tally.failed(Failure {
            event: mem::take(&mut entry.id),
            status: error.map(|error| error.status),
            message: error.map_or_else(
                || "the server's answer does not name the event".to_owned(),
                ItemError::words,
            ),
        });
    }
    again
}

fn fail_all(batch: Vec<Entry>, error: &Error, tally: &Tally) {
    let words = chain(error);
    for entry in batch {
        let (status, message) = (error.status(), words.clone());
        tally.failed(Failure { event: entry.id, status, message });
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ids: &[&str]) -> Vec<Entry> {
        ids.iter().map(|id| Entry::new((*id).to_owned(), Bytes::from_static(b"{}"))).collect()
    }

    fn answer(text: &str) -> IngestionAnswer {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_event_is_settled_by_its_own_verdict() {
        let answer = answer(
            r#"{"successes":[{"id":"a","status":201}],"errors":[
            {"id":"b","status":400,"message":"Invalid request data","error":"[…]"},
            {"id":"c","status":500,"error":"Internal Server Error"}]}"#,
        );
        let tally = Tally::default();
        let again = settle(entries(&["a", "b", "c", "d"]), &answer, false, &tally);
        assert_eq!(again.into_iter().map(|entry| entry.id).collect::<Vec<_>>(), ["c"]);
        let report = tally.report();
        assert_eq!((report.delivered, report.failed), (1, 2));
        assert_eq!(report.failures[0].message, "Invalid request data: […]");
        assert_eq!(report.failures[1].message, "the server's answer does not name the event");
    }

    #[test]
    fn the_last_attempt_settles_all() {
        let answer = answer(r#"{"successes":[],"errors":[{"id":"c","status":500}]}"#);
        let tally = Tally::default();
        assert!(settle(entries(&["c"]), &answer, true, &tally).is_empty());
        assert_eq!(tally.report().failures[0].status, Some(500));
    }
}
