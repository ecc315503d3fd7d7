//! Following a build: its log is polled for 55 seconds at a time and resumed after every break.

use std::{collections::VecDeque, time::Duration};

use modal_proto::client as api;

use crate::{
    client::Client,
    error::{Error, Operation, Result},
    ids::ImageId,
    retry::{self, RetryPolicy},
    rpc::{methods, status},
};

/// How long one poll is held by the server, in seconds.
const POLL: f32 = 55.0;
/// A poll without an end is given up after this long.
const POLL_LIMIT: Duration = Duration::from_secs(90);
/// Breaks in a row, without a line in between, after which the build is given up.
const BREAKS: RetryPolicy =
    RetryPolicy { retries: 10, first: Duration::from_millis(100), cap: Duration::from_secs(5) };
/// How much of the output an error quotes.
const TAIL: usize = 16 * 1024;

/// Whether a build has ended. Servers say "not yet" by leaving the result or its status out.
pub(super) fn is_settled(result: &api::GenericResult) -> bool {
    result.status() != api::generic_result::GenericStatus::Unspecified
}

/// Follows a build to its end, calling `on_text` with every piece of its output once.
pub(super) async fn join(
    client: &Client,
    image: &ImageId,
    operation: Operation,
    on_text: &mut (dyn FnMut(&str) + Send),
) -> Result<api::GenericResult> {
    let mut last_entry = String::new();
    let mut breaks = 0;
    loop {
        let before = last_entry.clone();
        match poll(client, image, &mut last_entry, on_text).await {
            Ok(Some(result)) => return Ok(result),
            Ok(None) => breaks = 0,
            Err(status) => {
                if last_entry != before {
                    breaks = 0;
                }
                if !retry::is_transient(status.code()) || breaks >= BREAKS.retries {
                    let rpc = methods::IMAGE_JOIN_STREAMING.name;
                    return Err(status::into_error(operation, rpc, &status, breaks + 1, None));
                }
                tracing::debug!(%image, code = ?status.code(), "the build log broke off and is resumed");
                tokio::time::sleep(BREAKS.jittered(breaks)).await;
                breaks += 1;
            }
        }
    }
}

/// One poll. Reads on after the result, since logs may follow it.
async fn poll(
    client: &Client,
    image: &ImageId,
    last_entry: &mut String,
    on_text: &mut (dyn FnMut(&str) + Send),
) -> Result<Option<api::GenericResult>, tonic::Status> {
    let query = join_request(image, last_entry);
    let wire = &client.shared.wire;
    let opened = wire.stream(&methods::IMAGE_JOIN_STREAMING, query, client.metadata(), None).await;
    let mut messages = opened?;
    let mut settled = None;
    let ends = tokio::time::Instant::now() + POLL_LIMIT;
    loop {
        let next = tokio::time::timeout_at(ends, messages.message()).await;
        let message = match next {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Ok(settled),
            // The result is known; only logs behind it are lost.
            Ok(Err(_)) | Err(_) if settled.is_some() => return Ok(settled),
            Ok(Err(status)) => return Err(status),
            Err(_) => return Ok(None),
        };
        for log in &message.task_logs {
            if !log.data.is_empty() {
                on_text(&log.data);
            }
        }
        if !message.entry_id.is_empty() {
            *last_entry = message.entry_id;
        }
        settled = settled.or(message.result.filter(is_settled));
    }
}

pub(crate) fn join_request(image: &ImageId, last_entry: &str) -> api::ImageJoinStreamingRequest {
    api::ImageJoinStreamingRequest {
        image_id: image.to_string(),
        timeout: POLL,
        last_entry_id: last_entry.to_owned(),
        include_logs_for_finished: false,
    }
}

/// The end of an output.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pieces: VecDeque<String>,
    length: usize,
}

impl Tail {
    pub(super) fn push(&mut self, text: &str) {
        self.length += text.len();
        self.pieces.push_back(text.to_owned());
        while self.length > TAIL && self.pieces.len() > 1 {
            self.length -= self.pieces.pop_front().map_or(0, |piece| piece.len());
        }
    }

    fn text(self) -> String {
        self.pieces.into_iter().collect()
    }
}

/// Turns a build that did not succeed into an error.
pub(super) fn check(
    image: &ImageId,
    step: &str,
    result: &api::GenericResult,
    output: Tail,
) -> Result<()> {
    use api::generic_result::GenericStatus as Status;
    let reason = match result.status() {
        Status::Success => return Ok(()),
        Status::Failure if result.exception.is_empty() => "it failed".to_owned(),
        Status::Failure => result.exception.clone(),
        Status::Terminated => format!("it was stopped: {}", result.exception),
        Status::Timeout => "it took longer than a build may".to_owned(),
        other => format!("{} {}", other.as_str_name(), result.exception),
    };
    Err(Error::BuildFailed {
        image: image.clone(),
        step: step.to_owned(),
        reason: reason.trim_end().to_owned(),
        output: output.text(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_its_step_reason_and_output() {
        let mut output = Tail::default();
        output.push("E: no package\n");
        let mut result =
            api::GenericResult { exception: "exit code 100".to_owned(), ..Default::default() };
        result.set_status(api::generic_result::GenericStatus::Failure);
        let error =
            check(&"im-1".parse().unwrap(), "RUN apt-get install x", &result, output).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to build image layer `im-1` (`RUN apt-get install x`): exit code 100\nE: no package"
        );
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut tail = Tail::default();
        for n in 0..10_000 {
            tail.push(&format!("line {n}\n"));
        }
        let text = tail.text();
        assert!(text.len() <= TAIL && text.ends_with("line 9999\n"));
    }
}
