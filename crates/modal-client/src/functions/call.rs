//! Calling a function: with an answer to wait for, or one to fetch later.

use std::time::Duration;

use bytes::Bytes;
use modal_proto::client as api;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{Function, INLINE, INLINE_SPAWNED};
use crate::{
    blob, cbor,
    client::Client,
    clock,
    error::{Error, Operation, Result},
    ids::FunctionCallId,
    rpc::methods,
    sandbox::{ExitReason, exit_of},
};

/// How long the server holds one question for outputs.
const POLL: Duration = Duration::from_secs(55);
/// How much longer the answer may take.
const POLL_SLACK: Duration = Duration::from_secs(5);
/// What stands before the first entry of a call's outputs.
pub(super) const FIRST_ENTRY: &str = "0-0";

/// Source: `MIN_INPUT_RETRY_DELAY_MS` of the Python SDK 1.6.4.
const SHORTEST_RETRY_DELAY_S: f64 = 1.0;

/// A call whose answer is fetched later, by its id even from another process.
#[derive(Debug, Clone)]
pub struct FunctionCall {
    pub(super) client: Client,
    pub(super) id: FunctionCallId,
    function: String,
}

/// A call that was sent, and what is needed to send it again.
struct Sent {
    call: FunctionCall,
    input: api::FunctionInput,
    input_jwt: String,
    call_jwt: String,
    /// The retries that this side makes; none where the server makes them.
    policy: api::FunctionRetryPolicy,
}

impl Function {
    /// Calls the function and waits for its answer.
    ///
    /// `arguments` is a tuple of positional ones, `(7,)` or `(2, "x")`, a map or a struct of named ones, or
    /// [`Arguments`](crate::Arguments) with both. They and the answer travel as CBOR.
    ///
    /// # Errors
    /// [`Error::FunctionFailed`] if it raised an exception, took too long or lost its container, after the retries
    /// of its definition. [`Error::Invalid`] if it is a generator, which [`generate`](Self::generate) calls.
    pub async fn call<T: DeserializeOwned>(&self, arguments: impl Serialize) -> Result<T> {
        if self.is_generator() {
            let problem = "it is a generator: use `generate`";
            return Err(Error::invalid(self.operation("call"), problem));
        }
        let kind = api::FunctionCallInvocationType::Sync;
        let mut sent = self.send(&arguments, kind, INLINE).await?;
        let mut retries = 0;
        loop {
            let jwt = (sent.policy.retries > 0).then(|| sent.input_jwt.clone());
            let output = sent.call.single_output(jwt).await?;
            let is_internal = output.result.as_ref().map(api::GenericResult::status)
                == Some(api::generic_result::GenericStatus::InternalFailure);
            let is_final = sent.policy.retries == 0 || is_settled(&output);
            if is_final || !is_internal && retries >= sent.policy.retries {
                return sent.call.answer(output).await;
            }
            if !is_internal {
                tokio::time::sleep(retry_delay(&sent.policy, retries)).await;
                retries += 1;
            }
            sent.again().await?;
        }
    }

    /// Calls the function without waiting: [`FunctionCall::get`] has the answer later.
    ///
    /// `arguments` as for [`call`](Self::call).
    pub async fn spawn(&self, arguments: impl Serialize) -> Result<FunctionCall> {
        let kind = api::FunctionCallInvocationType::Async;
        self.begin(&arguments, kind, INLINE_SPAWNED).await
    }

    /// Sends a call whose input is not sent again.
    pub(super) async fn begin(
        &self,
        arguments: &impl Serialize,
        kind: api::FunctionCallInvocationType,
        inline: usize,
    ) -> Result<FunctionCall> {
        Ok(self.send(arguments, kind, inline).await?.call)
    }

    async fn send(
        &self,
        arguments: &impl Serialize,
        kind: api::FunctionCallInvocationType,
        inline: usize,
    ) -> Result<Sent> {
        let input = self.input(arguments, inline).await?;
        let item = api::FunctionPutInputsItem { input: Some(input.clone()), ..Default::default() };
        let query = api::FunctionMapRequest {
            function_id: self.id.to_string(),
            function_call_type: api::FunctionCallType::Unary.into(),
            function_call_invocation_type: kind.into(),
            pipelined_inputs: vec![item.clone()],
            ..Default::default()
        };
        let operation = || self.operation("call");
        let answer = self.client.call(&methods::FUNCTION_MAP, &query, operation()).await?;
        let call = FunctionCall::of(&self.client, answer.function_call_id, &self.name)?;
        let mut taken = answer.pipelined_inputs;
        if taken.is_empty() {
            let query = api::FunctionPutInputsRequest {
                function_id: self.id.to_string(),
                function_call_id: call.id.to_string(),
                inputs: vec![item],
            };
            let method = &methods::FUNCTION_PUT_INPUTS;
            taken = self.client.call(method, &query, operation()).await?.inputs;
        }
        let taken = taken.into_iter().next().ok_or_else(|| {
            Error::protocol(operation(), "the input was not taken; its queue seems to be full")
        })?;
        let policy = answer.retry_policy.filter(|_| answer.sync_client_retries_enabled);
        Ok(Sent {
            call,
            input,
            input_jwt: taken.input_jwt,
            call_jwt: answer.function_call_jwt,
            policy: policy.unwrap_or_default(),
        })
    }

    /// The arguments as the server takes them; long ones become a blob.
    pub(super) async fn input(
        &self,
        arguments: &impl Serialize,
        inline: usize,
    ) -> Result<api::FunctionInput> {
        let operation = || self.operation("call");
        let formats = &self.metadata.supported_input_formats;
        if !formats.contains(&api::DataFormat::Cbor.into()) {
            let problem = "it takes no CBOR; deploy it anew with a newer client, or call a web function by its URL";
            return Err(Error::invalid(operation(), problem));
        }
        let bytes = cbor::encode_input(arguments)
            .map_err(|problem| Error::invalid(operation(), problem))?;
        let limit = self.metadata.max_object_size_bytes.filter(|_| inline == INLINE);
        let limit = limit.map_or(inline, |limit| usize::try_from(limit).unwrap_or(inline));
        use api::function_input::ArgsOneof;
        let args = if bytes.len() > limit {
            let name = std::path::Path::new("(arguments of a call)");
            ArgsOneof::ArgsBlobId(blob::upload(&self.client, bytes.into(), name).await?)
        } else {
            ArgsOneof::Args(bytes)
        };
        Ok(api::FunctionInput {
            args_oneof: Some(args),
            data_format: api::DataFormat::Cbor.into(),
            method_name: Some(self.metadata.use_method_name.clone())
                .filter(|name| !name.is_empty()),
            ..Default::default()
        })
    }
}

impl Sent {
    /// Sends the input again, after it failed.
    async fn again(&mut self) -> Result<()> {
        let item = api::FunctionRetryInputsItem {
            input_jwt: self.input_jwt.clone(),
            input: Some(self.input.clone()),
            retry_count: 0,
        };
        let query = api::FunctionRetryInputsRequest {
            function_call_jwt: self.call_jwt.clone(),
            inputs: vec![item],
        };
        let operation = self.call.operation("repeat a call of");
        let client = &self.call.client;
        let answer = client.call(&methods::FUNCTION_RETRY_INPUTS, &query, operation).await?;
        if let Some(jwt) = answer.input_jwts.into_iter().next() {
            self.input_jwt = jwt;
        }
        Ok(())
    }
}

impl Client {
    /// A call that was spawned before, by its id. No RPC: an unknown id shows when its answer is fetched.
    pub fn function_call(&self, id: &FunctionCallId) -> FunctionCall {
        FunctionCall { client: self.clone(), id: id.clone(), function: String::new() }
    }
}

impl FunctionCall {
    pub(super) fn of(client: &Client, id: String, function: &str) -> Result<Self> {
        let operation = || Operation::new("call", format!("function `{function}`"));
        let id = FunctionCallId::try_from(id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
        Ok(Self { client: client.clone(), id, function: function.to_owned() })
    }

    /// Its id.
    pub fn id(&self) -> &FunctionCallId {
        &self.id
    }

    /// Waits for the answer, as long as it takes.
    ///
    /// # Errors
    /// As for [`Function::call`]; [`Error::NotFound`] if the answer is no longer kept.
    pub async fn get<T: DeserializeOwned>(&self) -> Result<T> {
        self.wait_for(None).await
    }

    /// Waits for the answer; [`Duration::ZERO`] only looks whether it is there.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it is not there in time; else as for [`get`](Self::get).
    pub async fn get_within<T: DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        self.wait_for(Some(limit)).await
    }

    async fn wait_for<T: DeserializeOwned>(&self, limit: Option<Duration>) -> Result<T> {
        let end = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let poll = left.map_or(POLL, |left| left.min(POLL));
            let answer = self.ask(poll, false, None).await?;
            if let Some(output) = answer.outputs.into_iter().next() {
                return self.answer(output).await;
            }
            if left.is_some_and(|left| left <= poll) {
                let operation = self.operation("wait for");
                return Err(if answer.num_unfinished_inputs == 0 {
                    let gone = crate::error::Problem("its answer is no longer kept".to_owned());
                    Error::NotFound { operation, source: Box::new(gone) }
                } else {
                    Error::deadline(operation, "it is still running")
                });
            }
        }
    }

    /// Cancels the call; what it runs in is stopped too if `terminate_containers` is set. One RPC.
    pub async fn cancel(&self, terminate_containers: bool) -> Result<()> {
        let query = api::FunctionCallCancelRequest {
            function_call_id: self.id.to_string(),
            terminate_containers,
            ..Default::default()
        };
        let method = &methods::FUNCTION_CALL_CANCEL;
        self.client.call(method, &query, self.operation("cancel")).await
    }

    pub(super) async fn single_output(
        &self,
        jwt: Option<String>,
    ) -> Result<api::FunctionGetOutputsItem> {
        loop {
            let answer = self.ask(POLL, true, jwt.clone()).await?;
            if let Some(output) = answer.outputs.into_iter().next() {
                return Ok(output);
            }
        }
    }

    async fn ask(
        &self,
        timeout: Duration,
        clear: bool,
        jwt: Option<String>,
    ) -> Result<api::FunctionGetOutputsResponse> {
        let query = api::FunctionGetOutputsRequest {
            function_call_id: self.id.to_string(),
            timeout: timeout.as_secs_f32(),
            last_entry_id: FIRST_ENTRY.to_owned(),
            clear_on_success: clear,
            requested_at: clock::unix_seconds(),
            input_jwts: jwt.into_iter().collect(),
            start_idx: Some(0),
            end_idx: Some(0),
            ..Default::default()
        };
        self.outputs(&query, timeout).await
    }

    pub(super) async fn outputs(
        &self,
        query: &api::FunctionGetOutputsRequest,
        timeout: Duration,
    ) -> Result<api::FunctionGetOutputsResponse> {
        let method = &methods::FUNCTION_GET_OUTPUTS;
        let mut options = self.client.options(method, self.operation("wait for")).await?;
        options.deadline = Some(timeout + POLL_SLACK);
        self.client.call_with(method, query, options).await
    }

    /// What an output says, as the caller wants it.
    pub(super) async fn answer<T: DeserializeOwned>(
        &self,
        output: api::FunctionGetOutputsItem,
    ) -> Result<T> {
        let format = output.data_format();
        let bytes = self.answer_bytes(output).await?;
        self.decode(format, &bytes)
    }

    /// What an output says, in whatever form.
    pub(super) async fn answer_bytes(&self, output: api::FunctionGetOutputsItem) -> Result<Bytes> {
        let result = output.result.unwrap_or_default();
        if let Some(failure) = failure(&result) {
            return Err(Error::FunctionFailed {
                operation: self.operation("call"),
                reason: failure,
                message: result.exception,
                traceback: result.traceback,
            });
        }
        use api::generic_result::DataOneof;
        match result.data_oneof {
            Some(DataOneof::Data(bytes)) => Ok(bytes.into()),
            Some(DataOneof::DataBlobId(id)) => blob::download(&self.client, &id).await,
            None => Ok(Bytes::new()),
        }
    }

    pub(super) fn operation(&self, verb: &'static str) -> Operation {
        if self.function.is_empty() {
            return Operation::new(verb, format!("call `{}`", self.id));
        }
        Operation::new(verb, format!("function `{}`", self.function))
    }
}

/// Why an output is none; `None` for one.
fn failure(result: &api::GenericResult) -> Option<ExitReason> {
    match exit_of(result.clone()) {
        Some(exit) if exit.reason == ExitReason::Success => None,
        Some(exit) => Some(exit.reason),
        None => Some(ExitReason::InternalFailure),
    }
}

/// Whether an output is the last word, whatever the retries.
fn is_settled(output: &api::FunctionGetOutputsItem) -> bool {
    use api::generic_result::GenericStatus as Status;
    let status = output.result.as_ref().map(api::GenericResult::status);
    matches!(status, Some(Status::Success | Status::Terminated))
}

/// The pause before a failed input is sent again; a second at least, as in Modal's SDK.
pub(super) fn retry_delay(policy: &api::FunctionRetryPolicy, retry: u32) -> Duration {
    let factor = f64::from(policy.backoff_coefficient).powi(retry.try_into().unwrap_or(i32::MAX));
    let millis = f64::from(policy.initial_delay_ms) * factor;
    let seconds = millis.min(f64::from(policy.max_delay_ms)) / 1000.0;
    Duration::from_secs_f64(seconds.max(SHORTEST_RETRY_DELAY_S))
}
