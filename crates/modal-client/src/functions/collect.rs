//! The outputs of a map: each counts once, failures are repeated as the function's policy says, and one that waits for
//! its repetition holds up no other.

use std::{collections::HashMap, time::Duration};

use futures::{
    future::BoxFuture,
    stream::{self, FuturesUnordered, StreamExt as _},
};
use modal_proto::client as api;
use serde::de::DeserializeOwned;

use super::{
    call::{FIRST_ENTRY, retry_delay},
    map::{Answers, Running},
};
use crate::{clock, error::Result, rpc::methods};

/// How long the server holds one question for outputs.
const POLL: Duration = Duration::from_secs(55);
/// The same while there is an input whose token is not known yet.
const SHORT_POLL: Duration = Duration::from_secs(1);
/// Outputs that are fetched at once, where they are blobs.
const FETCHES: usize = 8;

/// The inputs that have no final output yet.
#[derive(Default)]
pub(super) struct Open {
    inputs: HashMap<i32, OpenInput>,
    all_sent: bool,
}

struct OpenInput {
    input: api::FunctionInput,
    jwt: String,
    retries: u32,
    /// It failed and was not sent again yet.
    is_resting: bool,
}

/// What an output means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is the answer.
    Final,
    /// The input is sent again after this long.
    Again(Duration),
    /// An answer was there already, or it belongs to an attempt that was given up.
    Stale,
}

impl Open {
    /// An input that is about to be sent: its output may be there before the answer that it was taken.
    pub(super) fn sending(&mut self, index: i32, input: api::FunctionInput) {
        let input = OpenInput { input, jwt: String::new(), retries: 0, is_resting: false };
        self.inputs.insert(index, input);
    }

    /// It was taken; the token is asked with for its output.
    pub(super) fn taken(&mut self, index: i32, jwt: String) {
        if let Some(input) = self.inputs.get_mut(&index) {
            input.jwt = jwt;
        }
    }

    /// There are no more inputs.
    pub(super) fn end(&mut self) {
        self.all_sent = true;
    }

    /// The tokens of what is being worked on; `None` if nothing is open and nothing will be.
    fn waiting(&self) -> Option<Vec<String>> {
        let is_over = self.all_sent && self.inputs.is_empty();
        let working = self.inputs.values().filter(|input| !input.is_resting);
        let jwts = working.map(|input| input.jwt.clone()).filter(|jwt| !jwt.is_empty());
        (!is_over).then(|| jwts.collect())
    }

    fn judge(
        &mut self,
        output: &api::FunctionGetOutputsItem,
        policy: Option<&api::FunctionRetryPolicy>,
    ) -> Verdict {
        use api::generic_result::GenericStatus as Status;
        let Some(input) = self.inputs.get_mut(&output.idx) else { return Verdict::Stale };
        if output.retry_count != input.retries {
            return Verdict::Stale;
        }
        let status = output.result.as_ref().map(api::GenericResult::status);
        let delay = match (status, policy) {
            (Some(Status::Success | Status::Terminated), _) | (_, None) => None,
            // The server's own failure is repeated at once, whatever the policy says.
            (Some(Status::InternalFailure), Some(_)) => Some(Duration::ZERO),
            (_, Some(policy)) if input.retries < policy.retries => {
                Some(retry_delay(policy, input.retries))
            }
            (_, Some(_)) => None,
        };
        match delay {
            Some(delay) => {
                input.retries += 1;
                input.is_resting = true;
                Verdict::Again(delay)
            }
            None => {
                self.inputs.remove(&output.idx);
                Verdict::Final
            }
        }
    }

    fn retry_item(&self, index: i32) -> Option<api::FunctionRetryInputsItem> {
        self.inputs.get(&index).map(|input| api::FunctionRetryInputsItem {
            input_jwt: input.jwt.clone(),
            input: Some(input.input.clone()),
            retry_count: input.retries,
        })
    }

    fn sent_again(&mut self, index: i32, jwt: Option<String>) {
        if let Some(input) = self.inputs.get_mut(&index) {
            input.is_resting = false;
            input.jwt = jwt.unwrap_or_default();
        }
    }
}

impl Running {
    /// Fetches outputs until every input has its final one.
    pub(super) async fn collect<T: DeserializeOwned>(&self, answers: &Answers<T>) -> Result<()> {
        let mut last_entry_id = FIRST_ENTRY.to_owned();
        let mut repetitions: FuturesUnordered<BoxFuture<'_, Result<()>>> = FuturesUnordered::new();
        loop {
            let Some(input_jwts) = self.open().waiting() else { return Ok(()) };
            let found = {
                let asking = self.fetch(input_jwts, &last_entry_id);
                let mut asking = std::pin::pin!(asking);
                loop {
                    tokio::select! {
                        found = &mut asking => break found?,
                        Some(sent) = repetitions.next() => sent?,
                    }
                }
            };
            if !found.last_entry_id.is_empty() {
                last_entry_id = found.last_entry_id;
            }
            let mut settled = Vec::new();
            for output in found.outputs {
                let policy = self.repeats.then_some(&self.policy);
                let verdict = self.open().judge(&output, policy);
                match verdict {
                    Verdict::Final => settled.push(output),
                    Verdict::Again(delay) => {
                        repetitions.push(Box::pin(self.again(output.idx, delay)));
                    }
                    Verdict::Stale => {}
                }
            }
            self.room.add_permits(settled.len());
            let decoding = settled.into_iter().map(|output| async move {
                (usize::try_from(output.idx).unwrap_or(usize::MAX), self.call.answer(output).await)
            });
            let mut decoded = stream::iter(decoding).buffered(FETCHES);
            while let Some(answer) = decoded.next().await {
                if answers.send(answer).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    async fn fetch(
        &self,
        input_jwts: Vec<String>,
        last_entry_id: &str,
    ) -> Result<api::FunctionGetOutputsResponse> {
        let query = api::FunctionGetOutputsRequest {
            function_call_id: self.call.id().to_string(),
            timeout: if input_jwts.is_empty() { SHORT_POLL } else { POLL }.as_secs_f32(),
            last_entry_id: last_entry_id.to_owned(),
            requested_at: clock::unix_seconds(),
            input_jwts,
            ..Default::default()
        };
        self.call.outputs(&query, POLL).await
    }

    async fn again(&self, index: i32, delay: Duration) -> Result<()> {
        tokio::time::sleep(delay).await;
        let Some(item) = self.open().retry_item(index) else { return Ok(()) };
        let query = api::FunctionRetryInputsRequest {
            function_call_jwt: self.call_jwt.clone(),
            inputs: vec![item],
        };
        let operation = self.function.operation("repeat a call of");
        let client = &self.function.client;
        let answer = client.call(&methods::FUNCTION_RETRY_INPUTS, &query, operation).await?;
        self.open().sent_again(index, answer.input_jwts.into_iter().next());
        Ok(())
    }

    /// Tells the server that all outputs arrived.
    pub(super) async fn clear(&self) -> Result<()> {
        let query = api::FunctionGetOutputsRequest {
            function_call_id: self.call.id().to_string(),
            last_entry_id: FIRST_ENTRY.to_owned(),
            clear_on_success: true,
            requested_at: clock::unix_seconds(),
            ..Default::default()
        };
        self.call.outputs(&query, Duration::ZERO).await.map(drop)
    }
}
