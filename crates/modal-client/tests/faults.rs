//! What happens when things break: calls that fail, servers that ask to wait, tokens that end,
//! connections that are cut in the middle of a stream. No byte may be lost, none may come twice.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use base64::Engine as _;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use modal_client::{Client, Code, Error, Image, Sandbox};
use modal_proto::{client as api, task_command_router as router};
use prost::Message as _;
use support::{
    breaker::breaker,
    raw::{Answer, Call, serve, throttled},
};
use tokio::io::AsyncWriteExt as _;
use tonic::Status;

/// A server that answers the nth call (from 0) with `answer(n)`, and the count of its calls.
async fn counting(
    answer: impl Fn(u32, &Call) -> Answer + Send + Sync + 'static,
) -> (String, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let url = serve(move |call| {
        let answer = answer(counted.fetch_add(1, Ordering::SeqCst), &call);
        async move { answer }.boxed()
    })
    .await;
    (url, calls)
}

fn app_answer() -> Answer {
    Answer::one(&api::AppGetOrCreateResponse { app_id: "ap-1".to_owned(), ..Default::default() })
}

#[tokio::test]
async fn a_call_is_repeated_with_the_same_key_and_counted() {
    let seen: Arc<Mutex<Vec<[String; 2]>>> = Arc::default();
    let log = Arc::clone(&seen);
    let (url, _) = counting(move |n, call| {
        let header = |name| call.header(name).unwrap().to_owned();
        log.lock().unwrap().push([header("x-idempotency-key"), header("x-retry-attempt")]);
        if n < 2 { Answer::fail(Status::unavailable("later")) } else { app_answer() }
    })
    .await;
    support::client(&url).await.app("x").await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen.iter().map(|[_, attempt]| attempt.as_str()).collect::<Vec<_>>(),
        ["0", "1", "2"]
    );
    assert!(seen.iter().all(|[key, _]| *key == seen[0][0] && key.len() == 36));
}

#[tokio::test]
async fn a_call_that_keeps_failing_says_how_often_it_was_sent() {
    let (url, calls) = counting(|_, _| Answer::fail(Status::internal("broken"))).await;
    let error = support::client(&url).await.app("x").await.unwrap_err();
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    assert!(matches!(error, Error::Server { .. }) && error.is_transient(), "{error:?}");
    let status = error.server_status().unwrap();
    assert_eq!(
        (status.code, status.attempts, status.message.as_str()),
        (Code::Internal, 4, "broken")
    );
}

#[tokio::test]
async fn a_final_error_is_not_repeated() {
    let (url, calls) = counting(|_, _| Answer::fail(Status::unauthenticated("who are you"))).await;
    let error = support::client(&url).await.app("x").await.unwrap_err();
    assert!(error.is_auth());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_asks_to_wait_is_obeyed_and_that_uses_no_retry() {
    let attempts: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&attempts);
    let (url, _) = counting(move |n, call| {
        log.lock().unwrap().push(call.header("x-throttle-retry-attempt").unwrap().to_owned());
        if n < 5 { Answer::fail(throttled(0.1)) } else { app_answer() }
    })
    .await;
    let started = Instant::now();
    support::client(&url).await.app("x").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert_eq!(*attempts.lock().unwrap(), ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_wait_that_is_not_wanted_is_a_rate_limit_error() {
    let (url, _) = counting(|_, _| Answer::fail(throttled(30.0))).await;
    let config = modal_client::Config::new(&url, "ak", "as").with_max_throttle_wait(Duration::ZERO);
    let client = Client::connect(config).await.unwrap();
    match client.app("x").await.unwrap_err() {
        Error::RateLimited { retry_after, .. } => {
            assert_eq!(retry_after, Some(Duration::from_secs(30)))
        }
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_build_log_is_resumed_where_it_broke() {
    let polls: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&polls);
    let url = serve(move |mut call| {
        let log = Arc::clone(&log);
        async move {
            match call.method.as_str() {
                "ImageGetOrCreate" => Answer::one(&api::ImageGetOrCreateResponse {
                    image_id: "im-1".to_owned(),
                    ..Default::default()
                }),
                "ImageJoinStreaming" => {
                    let query: api::ImageJoinStreamingRequest = call.message().await.unwrap();
                    log.lock().unwrap().push(query.last_entry_id.clone());
                    build_log(&query.last_entry_id)
                }
                "AppGetOrCreate" => app_answer(),
                other => panic!("{other}"),
            }
        }
        .boxed()
    })
    .await;
    let config = modal_client::Config::new(&url, "ak", "as").with_image_builder_version("2026.10");
    let client = Client::connect(config).await.unwrap();
    let app = client.app("x").await.unwrap();
    let printed: Arc<Mutex<String>> = Arc::default();
    let lines = Arc::clone(&printed);
    let image = Image::debian_slim();
    let build = client.build(&image, &app).on_log(move |text| lines.lock().unwrap().push_str(text));
    let error = build.await.unwrap_err();
    assert_eq!(*printed.lock().unwrap(), "one\ntwo\nthree\n");
    assert_eq!(*polls.lock().unwrap(), ["", "e1", "e2"]);
    let text = error.to_string();
    assert!(text.contains("exit code 1") && text.ends_with("one\ntwo\nthree"), "{text}");
}

/// A log of three lines: it breaks after the first, ends early after the second, fails after the third.
fn build_log(after: &str) -> Answer {
    let line = |entry: &str, data: &str| api::ImageJoinStreamingResponse {
        entry_id: entry.to_owned(),
        task_logs: vec![api::TaskLogs { data: data.to_owned(), ..Default::default() }],
        ..Default::default()
    };
    match after {
        "" => Answer::one(&line("e1", "one\n")).then(Status::internal("stream reset")),
        "e1" => Answer::one(&line("e2", "two\n")),
        _ => {
            let mut last = line("e3", "three\n");
            let mut result =
                api::GenericResult { exception: "exit code 1".to_owned(), ..Default::default() };
            result.set_status(api::generic_result::GenericStatus::Failure);
            last.result = Some(result);
            Answer::one(&last)
        }
    }
}

/// What a router fake keeps: the output it serves and the input it took.
#[derive(Default)]
struct RouterState {
    output: Vec<u8>,
    input: Mutex<Vec<u8>>,
    closed: Mutex<bool>,
    opened: AtomicU32,
    streams: AtomicU32,
    jwts: Mutex<Vec<String>>,
}

/// A sandbox whose router is reached at `router_url`, and whose control plane is at `control_url`.
async fn sandbox(control_url: &str) -> Sandbox {
    let client = support::client(control_url).await;
    client.sandboxes().from_id(&"sb-1".parse().unwrap()).await.unwrap()
}

/// The control plane of one sandbox: access numbers its JWTs, each of which ends `life` from when it is given.
async fn control(router_url: String, life: f64) -> String {
    let given = AtomicU32::new(0);
    let (url, _) = counting(move |_, call| match call.method.as_str() {
        "SandboxWaitV2" => Answer::one(&api::SandboxWaitResponse::default()),
        "AuthTokenGet" => Answer::one(&api::AuthTokenGetResponse { token: "e30.e30.s".to_owned() }),
        "SandboxGetTaskIdV2" => Answer::one(&api::SandboxGetTaskIdResponse {
            task_id: Some("ta-1".to_owned()),
            ..Default::default()
        }),
        "SandboxGetCommandRouterAccess" => {
            Answer::one(&api::SandboxGetCommandRouterAccessResponse {
                jwt: jwt(given.fetch_add(1, Ordering::SeqCst), life),
                url: router_url.clone(),
                ..Default::default()
            })
        }
        other => panic!("{other}"),
    })
    .await;
    url
}

/// A JWT with a serial number that ends `life` seconds from now.
fn jwt(serial: u32, life: f64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let claims = format!("{{\"exp\":{},\"n\":{serial}}}", now.as_secs_f64() + life);
    format!("e30.{}.s", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
}

/// A router that serves `state`: output in pieces from any offset, input with offsets.
async fn router_of(state: Arc<RouterState>) -> String {
    serve(move |call| serve_router(Arc::clone(&state), call).boxed()).await
}

async fn serve_router(state: Arc<RouterState>, mut call: Call) -> Answer {
    match call.method.as_str() {
        "TaskExecStart" => Answer::one(&router::TaskExecStartResponse {}),
        "TaskExecStdioRead" => {
            let query: router::TaskExecStdioReadRequest = call.message().await.unwrap();
            state.opened.fetch_add(1, Ordering::SeqCst);
            let rest = Bytes::copy_from_slice(&state.output[query.offset as usize..]);
            let pieces: Vec<Bytes> = (0..rest.len())
                .step_by(40_000)
                .map(|at| {
                    let data = rest[at..rest.len().min(at + 40_000)].to_vec();
                    router::TaskExecStdioReadResponse { data }.encode_to_vec().into()
                })
                .collect();
            Answer { messages: stream::iter(pieces).boxed(), status: None }
        }
        "TaskExecStdinWrite" => {
            let query: router::TaskExecStdinWriteRequest = call.message().await.unwrap();
            take(&state, query.offset, &query.data, query.eof);
            Answer::one(&router::TaskExecStdinWriteResponse {})
        }
        "TaskExecStdinStatus" => Answer::one(&router::TaskExecStdinStatusResponse {
            num_bytes_written: state.input.lock().unwrap().len() as u64,
            closed: *state.closed.lock().unwrap(),
        }),
        "TaskExecStdinWriteStream" => take_stream(&state, call).await,
        "TaskExecWait" => Answer::one(&router::TaskExecWaitResponse {
            exit_status: Some(router::task_exec_wait_response::ExitStatus::Code(0)),
        }),
        other => panic!("{other}"),
    }
}

/// Takes input as Modal does: bytes that it has are skipped, gaps are refused.
fn take(state: &RouterState, offset: u64, data: &[u8], eof: bool) {
    let mut input = state.input.lock().unwrap();
    let known = input.len() as u64;
    assert!(offset <= known, "a gap: {offset} after {known}");
    input.extend(&data[data.len().min((known - offset) as usize)..]);
    *state.closed.lock().unwrap() |= eof;
}

async fn take_stream(state: &RouterState, mut call: Call) -> Answer {
    use router::task_exec_stdin_write_stream_request::Payload;
    state.streams.fetch_add(1, Ordering::SeqCst);
    let mut offset = 0;
    while let Some(message) = call.message::<router::TaskExecStdinWriteStreamRequest>().await {
        match message.payload.unwrap() {
            Payload::Start(start) => {
                offset = start.offset;
                assert_eq!(offset, state.input.lock().unwrap().len() as u64, "resumed elsewhere");
            }
            Payload::Data(data) => {
                take(state, offset, &data, false);
                offset += data.len() as u64;
            }
            Payload::End(_) => {
                *state.closed.lock().unwrap() = true;
                return Answer::one(&router::TaskExecStdinWriteStreamResponse {});
            }
        }
    }
    Answer::fail(Status::unavailable("broken off"))
}

/// Bytes in which each place is known: a lost or repeated piece would show.
fn numbered(length: usize) -> Vec<u8> {
    (0..length as u32 / 4).flat_map(u32::to_be_bytes).collect()
}

#[tokio::test]
async fn output_over_a_wire_that_is_cut_again_and_again_loses_and_repeats_nothing() {
    let output = numbered(4_000_000);
    let state = Arc::new(RouterState { output: output.clone(), ..Default::default() });
    let wire = breaker(&router_of(Arc::clone(&state)).await, 300_000, 60).await;
    let sandbox = sandbox(&control(wire.url.clone(), 3600.0).await).await;
    let process = sandbox.exec(["cat", "big"]).await.unwrap();
    let read = process.stdout().read_bytes().await.unwrap();
    assert!(read == output, "{} bytes of {} came", read.len(), output.len());
    assert!(wire.cuts.load(Ordering::SeqCst) >= 5 && state.opened.load(Ordering::SeqCst) >= 6);
    let part = process.stdout_from(3_999_990).read_bytes().await.unwrap();
    assert_eq!(part, output[3_999_990..]);
}

#[tokio::test]
async fn input_over_a_wire_that_is_cut_again_and_again_arrives_once() {
    let input = numbered(4_000_000);
    let state = Arc::new(RouterState::default());
    let wire = breaker(&router_of(Arc::clone(&state)).await, 1_300_000, 60).await;
    let sandbox = sandbox(&control(wire.url.clone(), 3600.0).await).await;
    let mut process = sandbox.exec(["cat"]).await.unwrap();
    let mut stdin = process.take_stdin().unwrap();
    stdin.write_all(&input).await.unwrap();
    stdin.shutdown().await.unwrap();
    assert!(*state.input.lock().unwrap() == input && *state.closed.lock().unwrap());
    assert!(wire.cuts.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn a_streamed_file_is_resumed_at_the_byte_that_arrived() {
    let input = numbered(4_000_000);
    let state = Arc::new(RouterState::default());
    let wire = breaker(&router_of(Arc::clone(&state)).await, 1_300_000, 60).await;
    let sandbox = sandbox(&control(wire.url.clone(), 3600.0).await).await;
    sandbox.files().write("/x", input.clone()).await.unwrap();
    assert!(*state.input.lock().unwrap() == input);
    assert!(state.streams.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn access_that_ended_is_fetched_again_and_the_call_repeated() {
    let state = Arc::new(RouterState::default());
    let (seen, inner) = (Arc::clone(&state), Arc::clone(&state));
    let url = serve(move |call| {
        let (seen, inner) = (Arc::clone(&seen), Arc::clone(&inner));
        async move {
            let bearer = call.header("authorization").unwrap().to_owned();
            let is_first = {
                let mut jwts = seen.jwts.lock().unwrap();
                jwts.push(bearer);
                jwts.iter().all(|jwt| *jwt == jwts[0])
            };
            if is_first {
                Answer::fail(Status::unauthenticated("expired"))
            } else {
                serve_router(inner, call).await
            }
        }
        .boxed()
    })
    .await;
    let sandbox = sandbox(&control(url, 5.0).await).await;
    assert_eq!(sandbox.exec(["true"]).await.unwrap().wait().await.unwrap(), 0);
    assert_eq!(state.jwts.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn access_that_is_refused_though_it_is_fresh_is_an_error_and_not_fetched_for_ever() {
    let (url, calls) = counting(|_, _| Answer::fail(Status::unauthenticated("no"))).await;
    let sandbox = sandbox(&control(url, 3600.0).await).await;
    let error = sandbox.exec(["true"]).await.unwrap_err();
    assert!(error.is_auth(), "{error:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_sandbox_without_a_router_is_gone() {
    let (url, _) = counting(|_, call| match call.method.as_str() {
        "SandboxWaitV2" => Answer::one(&api::SandboxWaitResponse::default()),
        "AuthTokenGet" => Answer::one(&api::AuthTokenGetResponse { token: "e30.e30.s".to_owned() }),
        "SandboxGetTaskIdV2" => Answer::one(&api::SandboxGetTaskIdResponse {
            task_id: Some("ta-1".to_owned()),
            ..Default::default()
        }),
        _ => Answer::fail(Status::failed_precondition("it has ended")),
    })
    .await;
    let error = sandbox(&url).await.exec(["true"]).await.unwrap_err();
    assert!(error.is_sandbox_gone());
    assert_eq!(
        error.to_string(),
        "failed to start a command in sandbox `sb-1`: sandbox `sb-1` is gone"
    );
}

#[tokio::test]
async fn a_command_that_is_not_found_is_told_from_a_sandbox_that_has_ended() {
    for (status, is_gone) in [
        (api::generic_result::GenericStatus::Unspecified, false),
        (api::generic_result::GenericStatus::Timeout, true),
    ] {
        let (router, _) = counting(|_, _| Answer::fail(Status::not_found("no such thing"))).await;
        let (url, _) = counting(move |_, call| match call.method.as_str() {
            "SandboxWaitV2" => {
                let mut result = api::GenericResult::default();
                result.set_status(status);
                Answer::one(&api::SandboxWaitResponse {
                    result: Some(result),
                    ..Default::default()
                })
            }
            "AuthTokenGet" => {
                Answer::one(&api::AuthTokenGetResponse { token: "e30.e30.s".to_owned() })
            }
            "SandboxGetTaskIdV2" => Answer::one(&api::SandboxGetTaskIdResponse {
                task_id: Some("ta-1".to_owned()),
                ..Default::default()
            }),
            _ => Answer::one(&api::SandboxGetCommandRouterAccessResponse {
                url: router.clone(),
                ..Default::default()
            }),
        })
        .await;
        let error = sandbox(&url).await.exec(["nothing"]).await.unwrap_err();
        assert_eq!(
            (error.is_sandbox_gone(), error.is_not_found()),
            (is_gone, !is_gone),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn output_that_the_server_dropped_or_repeats_is_placed_by_its_offset() {
    let opened = AtomicU32::new(0);
    let chunk = |starting_offset, data: &str| -> Bytes {
        router::SandboxStdioReadV2Response { starting_offset, data: data.into() }
            .encode_to_vec()
            .into()
    };
    let (url, _) = counting(move |_, _| match opened.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::many([chunk(0, "ab"), chunk(0, "cd")]).then(Status::unavailable("cut")),
        // It starts two bytes before where it was asked to.
        1 => Answer::many([chunk(2, "cdef")]).then(Status::unavailable("cut")),
        // What lies between was dropped.
        _ => Answer::many([chunk(10, "kl")]),
    })
    .await;
    let sandbox = sandbox(&control(url, 3600.0).await).await;
    assert_eq!(sandbox.stdout().read_text().await.unwrap(), "abcdefkl");
}
