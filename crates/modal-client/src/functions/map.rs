//! Calling a function with many inputs: they are sent in batches while outputs come back.

use std::{
    collections::BTreeMap,
    future::IntoFuture,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use modal_proto::client as api;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Semaphore, mpsc};

use super::{Function, INLINE, call::FunctionCall, collect::Open};
use crate::{
    error::{Error, Result},
    retry::RetryPolicy,
    rpc::methods,
};

/// Inputs of one request.
const BATCH: usize = 49;
/// Inputs on their way where the server sets no limit.
const OUTSTANDING: usize = 1000;
/// Outputs that wait for the reader.
const BUFFER: usize = 64;
/// Inputs are sent for as long as it takes: a full queue empties.
const PUT: RetryPolicy = RetryPolicy {
    retries: u32::MAX,
    first: Duration::from_millis(100),
    cap: Duration::from_secs(15),
};

/// Calls a function many times; see [`Function::map`].
#[must_use = "nothing is sent until it is awaited or streamed"]
pub struct FunctionMap<I> {
    function: Function,
    inputs: I,
}

impl<I> std::fmt::Debug for FunctionMap<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionMap").field("function", &self.function).finish_non_exhaustive()
    }
}

impl Function {
    /// Calls the function with each of many arguments, several at once: `function.map((0..100).map(|n| (n,)))`.
    ///
    /// Awaited, [`outputs`](FunctionMap::outputs) has all answers in the order of their inputs;
    /// [`stream`](FunctionMap::stream) has them as they are ready, each with its index. Each item is what
    /// [`call`](Self::call) takes.
    pub fn map<I>(&self, inputs: I) -> FunctionMap<I>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        FunctionMap { function: self.clone(), inputs }
    }
}

impl<I> FunctionMap<I>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: Send,
    I::Item: Serialize + Send + Sync,
{
    /// All answers, in the order of their inputs.
    ///
    /// # Errors
    /// The first failure of a call ends it; calls that are on their way go on.
    pub async fn outputs<T: DeserializeOwned + Send + 'static>(self) -> Result<Vec<T>> {
        let mut answers = self.stream::<T>();
        let mut sorted = BTreeMap::new();
        while let Some((index, answer)) = answers.next().await {
            sorted.insert(index, answer?);
        }
        Ok(sorted.into_values().collect())
    }

    /// The answers as they are ready, each with the index of its input. A failed call is an item; what fails
    /// as a whole is the last item, with the index of no input.
    pub fn stream<T: DeserializeOwned + Send + 'static>(
        self,
    ) -> BoxStream<'static, (usize, Result<T>)> {
        let (sender, answers) = mpsc::channel(BUFFER);
        let driver = tokio::spawn(async move {
            if let Err(error) = run(self.function, self.inputs.into_iter(), &sender).await {
                let _ = sender.send((usize::MAX, Err(error))).await;
            }
        });
        // Whoever drops the stream wants no more inputs sent.
        let guard = AbortOnDrop(driver.abort_handle());
        stream::unfold((answers, guard), |(mut answers, guard)| async move {
            answers.recv().await.map(|answer| (answer, (answers, guard)))
        })
        .boxed()
    }
}

impl<I> IntoFuture for FunctionMap<I>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: Send,
    I::Item: Serialize + Send + Sync,
{
    type Output = Result<Vec<serde_json::Value>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// All answers as JSON values, in the order of their inputs.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.outputs())
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) type Answers<T> = mpsc::Sender<(usize, Result<T>)>;

/// A map that runs: one half sends inputs, the other ([`collect`](super::collect)) fetches outputs.
pub(super) struct Running {
    pub(super) function: Function,
    pub(super) call: FunctionCall,
    pub(super) call_jwt: String,
    pub(super) policy: api::FunctionRetryPolicy,
    /// Whether failures are repeated from here; otherwise the server does.
    pub(super) repeats: bool,
    pub(super) room: Arc<Semaphore>,
    open: Mutex<Open>,
}

async fn run<T: DeserializeOwned + Send + 'static>(
    function: Function,
    inputs: impl Iterator<Item = impl Serialize + Send + Sync> + Send,
    answers: &Answers<T>,
) -> Result<()> {
    let query = api::FunctionMapRequest {
        function_id: function.id.to_string(),
        function_call_type: api::FunctionCallType::Map.into(),
        function_call_invocation_type: api::FunctionCallInvocationType::Sync.into(),
        ..Default::default()
    };
    let operation = function.operation("call");
    let answer = function.client.call(&methods::FUNCTION_MAP, &query, operation).await?;
    let outstanding = match answer.max_inputs_outstanding {
        0 => OUTSTANDING,
        limit => limit as usize,
    };
    let running = Running {
        call: FunctionCall::of(&function.client, answer.function_call_id, &function.name)?,
        function,
        call_jwt: answer.function_call_jwt,
        policy: answer.retry_policy.unwrap_or_default(),
        repeats: answer.sync_client_retries_enabled,
        room: Arc::new(Semaphore::new(outstanding)),
        open: Mutex::default(),
    };
    tokio::try_join!(running.feed(inputs), running.collect(answers))?;
    running.clear().await
}

impl Running {
    pub(super) fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn feed(
        &self,
        mut inputs: impl Iterator<Item = impl Serialize + Send + Sync> + Send,
    ) -> Result<()> {
        let mut index = 0;
        loop {
            let mut batch = Vec::new();
            while batch.len() < BATCH {
                // The batch that there is goes before one waits for room.
                let permit = match self.room.clone().try_acquire_owned() {
                    Ok(permit) => permit,
                    Err(_) if !batch.is_empty() => break,
                    Err(_) => match self.room.clone().acquire_owned().await {
                        Ok(permit) => permit,
                        Err(_) => return Ok(()),
                    },
                };
                let Some(arguments) = inputs.next() else { break };
                let input = self.function.input(&arguments, INLINE).await?;
                permit.forget();
                batch.push(api::FunctionPutInputsItem {
                    idx: index,
                    input: Some(input),
                    ..Default::default()
                });
                index += 1;
            }
            let is_last = batch.is_empty();
            if !is_last {
                self.put(batch).await?;
            } else {
                self.open().end();
                return Ok(());
            }
        }
    }

    async fn put(&self, inputs: Vec<api::FunctionPutInputsItem>) -> Result<()> {
        for item in &inputs {
            self.open().sending(item.idx, item.input.clone().unwrap_or_default());
        }
        let query = api::FunctionPutInputsRequest {
            function_id: self.function.id.to_string(),
            function_call_id: self.call.id().to_string(),
            inputs,
        };
        let answer = loop {
            match self.put_once(&query).await {
                // The queue is full: it empties while this waits.
                Err(Error::RateLimited { .. }) => tokio::time::sleep(PUT.jittered(3)).await,
                settled => break settled?,
            }
        };
        for taken in answer.inputs {
            self.open().taken(taken.idx, taken.input_jwt);
        }
        Ok(())
    }

    async fn put_once(
        &self,
        query: &api::FunctionPutInputsRequest,
    ) -> Result<api::FunctionPutInputsResponse> {
        let client = &self.function.client;
        let method = &methods::FUNCTION_PUT_INPUTS;
        let mut options = client.options(method, self.function.operation("call")).await?;
        options.policy = PUT;
        client.call_with(method, query, options).await
    }
}
