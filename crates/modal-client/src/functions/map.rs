//! Calling a function with many inputs: they are sent in batches while outputs come back.

use std::{
    collections::{BTreeMap, HashMap},
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

use super::{
    Function, INLINE,
    call::{FIRST_ENTRY, FunctionCall, is_settled, retry_delay},
};
use crate::{
    clock,
    error::{Error, Result},
    retry::RetryPolicy,
    rpc::methods,
};

/// Inputs of one request.
const BATCH: usize = 49;
/// Inputs on their way where the server sets no limit.
const OUTSTANDING: usize = 1000;
/// How long the server holds one question for outputs.
const POLL: Duration = Duration::from_secs(55);
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

type Answers<T> = mpsc::Sender<(usize, Result<T>)>;

/// A map that runs.
struct Running {
    function: Function,
    call: FunctionCall,
    call_jwt: String,
    policy: api::FunctionRetryPolicy,
    room: Arc<Semaphore>,
    open: Mutex<Open>,
}

/// Which inputs are on their way.
#[derive(Default)]
struct Open {
    inputs: HashMap<i32, OpenInput>,
    sent: usize,
    answered: usize,
    all_sent: bool,
}

struct OpenInput {
    input: api::FunctionInput,
    jwt: String,
    retries: u32,
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
    let policy = answer.retry_policy.filter(|_| answer.sync_client_retries_enabled);
    let running = Running {
        call: FunctionCall::of(&function.client, answer.function_call_id, &function.name)?,
        function,
        call_jwt: answer.function_call_jwt,
        policy: policy.unwrap_or_default(),
        room: Arc::new(Semaphore::new(outstanding)),
        open: Mutex::default(),
    };
    tokio::try_join!(running.feed(inputs), running.collect(answers))?;
    running.clear().await
}

impl Running {
    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
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
                self.open().all_sent = true;
                return Ok(());
            }
        }
    }

    async fn put(&self, inputs: Vec<api::FunctionPutInputsItem>) -> Result<()> {
        let query = api::FunctionPutInputsRequest {
            function_id: self.function.id.to_string(),
            function_call_id: self.call.id().to_string(),
            inputs: inputs.clone(),
        };
        let answer = loop {
            match self.put_once(&query).await {
                // The queue is full: it empties while this waits.
                Err(Error::RateLimited { .. }) => tokio::time::sleep(PUT.jittered(3)).await,
                settled => break settled?,
            }
        };
        let jwts: HashMap<i32, String> =
            answer.inputs.into_iter().map(|taken| (taken.idx, taken.input_jwt)).collect();
        let mut open = self.open();
        for item in inputs {
            let jwt = jwts.get(&item.idx).cloned().unwrap_or_default();
            let input = item.input.unwrap_or_default();
            open.inputs.insert(item.idx, OpenInput { input, jwt, retries: 0 });
            open.sent += 1;
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

    /// Whether nothing is on its way and nothing will be; otherwise the tokens of what is.
    fn waiting(&self) -> Option<Vec<String>> {
        let open = self.open();
        let is_over = open.all_sent && open.inputs.is_empty();
        let jwts = open.inputs.values().map(|input| input.jwt.clone());
        (!is_over).then(|| jwts.filter(|jwt| !jwt.is_empty()).collect())
    }

    async fn collect<T: DeserializeOwned>(&self, answers: &Answers<T>) -> Result<()> {
        let mut last_entry_id = FIRST_ENTRY.to_owned();
        while let Some(input_jwts) = self.waiting() {
            let query = api::FunctionGetOutputsRequest {
                function_call_id: self.call.id().to_string(),
                // While inputs are still being sent, one that came before its token is asked for again soon.
                timeout: if input_jwts.is_empty() { 1.0 } else { POLL.as_secs_f32() },
                last_entry_id: last_entry_id.clone(),
                requested_at: clock::unix_seconds(),
                input_jwts,
                ..Default::default()
            };
            let found = self.call.outputs(&query, POLL).await?;
            if !found.last_entry_id.is_empty() {
                last_entry_id = found.last_entry_id;
            }
            let settled = self.settle(found.outputs).await?;
            let decoding = settled.into_iter().map(|output| async move {
                (usize::try_from(output.idx).unwrap_or(usize::MAX), self.call.answer(output).await)
            });
            let mut decoded = stream::iter(decoding).buffered(8);
            while let Some(answer) = decoded.next().await {
                if answers.send(answer).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The outputs that are final, each once; those to be repeated are sent again.
    async fn settle(
        &self,
        outputs: Vec<api::FunctionGetOutputsItem>,
    ) -> Result<Vec<api::FunctionGetOutputsItem>> {
        let (mut settled, mut again) = (Vec::new(), Vec::new());
        for output in outputs {
            let mut open = self.open();
            let Some(input) = open.inputs.get_mut(&output.idx) else { continue };
            if is_settled(&output) || input.retries >= self.policy.retries {
                open.inputs.remove(&output.idx);
                open.answered += 1;
                self.room.add_permits(1);
                settled.push(output);
            } else {
                input.retries += 1;
                again.push((output.idx, input.retries - 1));
            }
        }
        for (index, retry) in again {
            tokio::time::sleep(retry_delay(&self.policy, retry)).await;
            self.again(index).await?;
        }
        Ok(settled)
    }

    async fn again(&self, index: i32) -> Result<()> {
        let item = {
            let open = self.open();
            open.inputs.get(&index).map(|input| api::FunctionRetryInputsItem {
                input_jwt: input.jwt.clone(),
                input: Some(input.input.clone()),
                retry_count: input.retries,
            })
        };
        let Some(item) = item else { return Ok(()) };
        let query = api::FunctionRetryInputsRequest {
            function_call_jwt: self.call_jwt.clone(),
            inputs: vec![item],
        };
        let operation = self.function.operation("repeat a call of");
        let client = &self.function.client;
        let answer = client.call(&methods::FUNCTION_RETRY_INPUTS, &query, operation).await?;
        if let (Some(jwt), Some(input)) =
            (answer.input_jwts.into_iter().next(), self.open().inputs.get_mut(&index))
        {
            input.jwt = jwt;
        }
        Ok(())
    }

    /// Tells the server that all outputs arrived.
    async fn clear(&self) -> Result<()> {
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
