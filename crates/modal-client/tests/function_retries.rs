//! Inputs of functions that fail: which are sent again, when, with which token, and that none is lost or counted twice.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use modal_client::{Client, Config, Error, Function};
use modal_proto::client::{self as api, generic_result::GenericStatus as Ended};
use support::raw::{Answer, Call, in_process};
use tokio::time::Instant;
use tonic::Status;

/// What each attempt of each input ends with, in order; after the last, with success.
type Script = HashMap<i32, Vec<Ended>>;

/// A function whose attempts end as the script says. Its clock is the test's.
struct Server {
    script: Script,
    policy: api::FunctionRetryPolicy,
    repeats_by_itself: bool,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    attempts: HashMap<i32, u32>,
    /// Outputs that were not fetched yet.
    ready: Vec<api::FunctionGetOutputsItem>,
    /// The inputs that were sent again: seconds since the start, index, token.
    again: Vec<(u64, i32, String)>,
    refusals: u32,
}

impl Server {
    fn new(script: impl IntoIterator<Item = (i32, Vec<Ended>)>) -> Self {
        let policy = api::FunctionRetryPolicy {
            retries: 2,
            backoff_coefficient: 2.0,
            initial_delay_ms: 5_000,
            max_delay_ms: 60_000,
        };
        Self {
            script: script.into_iter().collect(),
            policy,
            repeats_by_itself: false,
            started: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// Works on an input: its output is there at once.
    fn work(&self, state: &mut State, idx: i32) -> String {
        let attempt = state.attempts.entry(idx).or_default();
        let ends = self.script.get(&idx).and_then(|ends| ends.get(*attempt as usize));
        let status = ends.copied().unwrap_or(Ended::Success);
        let mut answer = Vec::new();
        ciborium::into_writer(&(idx * 10), &mut answer).unwrap();
        let result = api::GenericResult {
            status: status.into(),
            exception: format!("attempt {attempt} of {idx}"),
            data_oneof: Some(api::generic_result::DataOneof::Data(answer)),
            ..Default::default()
        };
        let output = api::FunctionGetOutputsItem {
            result: Some(result),
            idx,
            data_format: api::DataFormat::Cbor.into(),
            retry_count: *attempt,
            ..Default::default()
        };
        // Whatever is delivered twice counts once.
        state.ready.extend([output.clone(), output]);
        let jwt = format!("token-{idx}-{attempt}");
        *attempt += 1;
        jwt
    }

    async fn answer(self: Arc<Self>, mut call: Call) -> Answer {
        match call.method.as_str() {
            "FunctionGet" => Answer::one(&api::FunctionGetResponse {
                function_id: "fu-1".to_owned(),
                handle_metadata: Some(api::FunctionHandleMetadata {
                    supported_input_formats: vec![api::DataFormat::Cbor.into()],
                    ..Default::default()
                }),
                ..Default::default()
            }),
            "FunctionMap" => self.map(call.message().await.unwrap()),
            "FunctionPutInputs" => self.put(call.message().await.unwrap()),
            "FunctionGetOutputs" => self.outputs(call.message().await.unwrap()).await,
            "FunctionRetryInputs" => self.again(call.message().await.unwrap()),
            other => panic!("{other}"),
        }
    }

    fn map(&self, query: api::FunctionMapRequest) -> Answer {
        let mut state = self.state.lock().unwrap();
        let pipelined = query.pipelined_inputs.iter();
        let taken = pipelined.map(|item| taken(item.idx, self.work(&mut state, item.idx)));
        Answer::one(&api::FunctionMapResponse {
            function_call_id: "fc-1".to_owned(),
            pipelined_inputs: taken.collect(),
            retry_policy: Some(self.policy),
            function_call_jwt: "call".to_owned(),
            sync_client_retries_enabled: !self.repeats_by_itself,
            ..Default::default()
        })
    }

    fn put(&self, query: api::FunctionPutInputsRequest) -> Answer {
        let mut state = self.state.lock().unwrap();
        if state.refusals > 0 {
            state.refusals -= 1;
            return Answer::fail(Status::resource_exhausted("the queue is full"));
        }
        let inputs = query.inputs.iter();
        let inputs = inputs.map(|item| taken(item.idx, self.work(&mut state, item.idx))).collect();
        Answer::one(&api::FunctionPutInputsResponse { inputs })
    }

    async fn outputs(&self, query: api::FunctionGetOutputsRequest) -> Answer {
        let begun = Instant::now();
        loop {
            let outputs = std::mem::take(&mut self.state.lock().unwrap().ready);
            let is_over = begun.elapsed() >= Duration::from_secs_f32(query.timeout);
            if !outputs.is_empty() || is_over {
                return Answer::one(&api::FunctionGetOutputsResponse {
                    outputs,
                    num_unfinished_inputs: 1,
                    ..Default::default()
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn again(&self, query: api::FunctionRetryInputsRequest) -> Answer {
        assert_eq!(query.function_call_jwt, "call");
        let mut state = self.state.lock().unwrap();
        let mut input_jwts = Vec::new();
        for item in query.inputs {
            let idx = item.input_jwt.split('-').nth(1).unwrap().parse().unwrap();
            assert!(item.input.is_some(), "an input that is sent again is whole");
            state.again.push((self.started.elapsed().as_secs(), idx, item.input_jwt));
            input_jwts.push(self.work(&mut state, idx));
        }
        Answer::one(&api::FunctionRetryInputsResponse { input_jwts })
    }
}

fn taken(idx: i32, input_jwt: String) -> api::FunctionPutInputsResponseItem {
    api::FunctionPutInputsResponseItem { idx, input_jwt, ..Default::default() }
}

async fn function(server: &Arc<Server>) -> Function {
    let server = Arc::clone(server);
    let service = in_process(move |call| Arc::clone(&server).answer(call).boxed());
    let config = Config::new("http://nobody-listens.invalid", "ak-test", "as-test");
    let client = Client::builder(config).in_process(service).connect().await.unwrap();
    client.function("app", "f").await.unwrap()
}

fn again(server: &Server) -> Vec<(u64, i32, String)> {
    server.state.lock().unwrap().again.clone()
}

fn at(seconds: u64, idx: i32, token: &str) -> (u64, i32, String) {
    (seconds, idx, token.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_repeated_after_growing_pauses_with_the_newest_token() {
    let server = Arc::new(Server::new([(0, vec![Ended::Failure, Ended::Timeout])]));
    assert_eq!(function(&server).await.call::<i32>((1,)).await.unwrap(), 0);
    assert_eq!(again(&server), [at(5, 0, "token-0-0"), at(15, 0, "token-0-1")]);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_retries_are_used_up_fails_with_what_the_last_one_said() {
    let server = Arc::new(Server::new([(0, vec![Ended::Failure; 5])]));
    let error = function(&server).await.call::<i32>((1,)).await.unwrap_err();
    let Error::FunctionFailed { message, .. } = error else { panic!("{error:?}") };
    assert!(message.starts_with("attempt ") && again(&server).len() == 2, "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_failure_is_repeated_at_once_and_costs_no_retry() {
    let mut ends = vec![Ended::InternalFailure; 4];
    ends.extend([Ended::Failure, Ended::Failure]);
    let server = Arc::new(Server::new([(0, ends)]));
    assert_eq!(function(&server).await.call::<i32>((1,)).await.unwrap(), 0);
    let times: Vec<u64> = again(&server).into_iter().map(|(time, ..)| time).collect();
    assert_eq!(times, [0, 0, 0, 0, 5, 15]);
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_or_is_repeated_by_the_server_is_final() {
    let server = Arc::new(Server::new([(0, vec![Ended::Terminated])]));
    function(&server).await.call::<i32>((1,)).await.unwrap_err();
    assert!(again(&server).is_empty());
    let server = Arc::new(server_that_repeats());
    function(&server).await.call::<i32>((1,)).await.unwrap_err();
    assert!(again(&server).is_empty());
    let server = Arc::new(server_that_repeats());
    function(&server).await.map([(1,)]).outputs::<i32>().await.unwrap_err();
    assert!(again(&server).is_empty());
}

/// It repeats failures by itself, and tells the last one only.
fn server_that_repeats() -> Server {
    let mut server = Server::new([(0, vec![Ended::Failure])]);
    server.repeats_by_itself = true;
    server
}

#[tokio::test(start_paused = true)]
async fn a_map_repeats_what_failed_alone_and_has_every_answer_once_and_in_order() {
    let script = [(3, vec![Ended::Failure, Ended::Failure]), (70, vec![Ended::InternalFailure; 3])];
    let server = Arc::new(Server::new(script));
    let function = function(&server).await;
    let outputs = function.map((0..120).map(|n| (n,))).outputs::<i32>().await.unwrap();
    assert_eq!(outputs, (0..120).map(|n| n * 10).collect::<Vec<i32>>());
    let state = server.state.lock().unwrap();
    let repeated: HashMap<i32, u32> =
        state.attempts.iter().map(|(idx, n)| (*idx, *n)).filter(|(_, n)| *n > 1).collect();
    assert_eq!(repeated, HashMap::from([(3, 3), (70, 4)]));
    let of_three: Vec<_> = state.again.iter().filter(|(_, idx, _)| *idx == 3).cloned().collect();
    assert_eq!(of_three, [at(5, 3, "token-3-0"), at(15, 3, "token-3-1")]);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_waits_for_its_repetition_holds_up_no_other() {
    use futures::StreamExt as _;
    let server = Arc::new(Server::new([(0, vec![Ended::Failure])]));
    let mut answers = function(&server).await.map((0..3).map(|n| (n,))).stream::<i32>();
    let begun = Instant::now();
    let mut order = Vec::new();
    while let Some((index, answer)) = answers.next().await {
        assert_eq!(answer.unwrap(), index as i32 * 10);
        order.push((begun.elapsed().as_secs(), index));
    }
    assert_eq!(order, [(0, 1), (0, 2), (5, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_map_whose_input_fails_for_good_says_which() {
    use futures::StreamExt as _;
    let server = Arc::new(Server::new([(1, vec![Ended::Failure; 9])]));
    let mut answers = function(&server).await.map((0..3).map(|n| (n,))).stream::<i32>();
    let mut failed = Vec::new();
    while let Some((index, answer)) = answers.next().await {
        failed.extend(answer.err().map(|error| (index, error)));
    }
    let [(1, Error::FunctionFailed { message, .. })] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(message, "attempt 2 of 1");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_inputs_is_waited_for() {
    let server = Arc::new(Server::new([]));
    server.state.lock().unwrap().refusals = 5;
    let outputs = function(&server).await.map((0..60).map(|n| (n,))).outputs::<i32>().await;
    assert_eq!(outputs.unwrap().len(), 60);
}
