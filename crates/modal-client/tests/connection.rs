//! How servers are reached: through proxies, over sockets, with whose certificates, and how long they are waited for.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support;

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::Engine as _;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use modal_client::{Client, Config, Environ, Error, Sandbox};
use modal_proto::{client as api, task_command_router as router};
use prost::Message as _;
use support::{
    proxy::proxy,
    raw::{self, Answer, Call},
    spans::Spans,
};
use tonic::{Code, Status, transport::Identity};

fn config(variables: &[(&str, &str)]) -> Config {
    let token = [("MODAL_TOKEN_ID", "ak-1"), ("MODAL_TOKEN_SECRET", "as-1")];
    let pairs = token.iter().chain(variables).copied();
    Config::from_env_and_file(&Environ::from_pairs(pairs)).unwrap()
}

/// Everything an error says.
fn told(error: &Error) -> String {
    let mut text = format!("{error:?} {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A server that greets, and keeps the calls' headers.
fn greeting(
    calls: &Arc<Mutex<Vec<tonic::metadata::MetadataMap>>>,
) -> impl Fn(Call) -> futures::future::BoxFuture<'static, Answer> + Send + Sync + use<> {
    let calls = Arc::clone(calls);
    move |call| {
        calls.lock().unwrap().push(call.metadata.clone());
        async { Answer::one(&api::ClientHelloResponse::default()) }.boxed()
    }
}

#[tokio::test]
async fn calls_go_through_a_proxy_which_hears_its_credentials_and_nobody_else_does() {
    let calls = Arc::default();
    let server = raw::serve(greeting(&calls)).await;
    let basic = "Basic dXNlcjpwbGFudGVk"; // user:planted
    let proxy = proxy(&server, basic).await;
    let url = format!("http://user:planted@{}", proxy.address);
    let config = config(&[("MODAL_SERVER_URL", "http://modal.example:8080"), ("http_proxy", &url)]);
    assert!(!format!("{config:?}").contains("planted"));
    Client::connect(config).await.unwrap().verify().await.unwrap();
    assert_eq!(calls.lock().unwrap().len(), 1);
    let asked = proxy.requests.lock().unwrap().join("");
    assert!(asked.starts_with("CONNECT modal.example:8080 HTTP/1.1\r\n"), "{asked}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_a_clear_error_without_its_password() {
    let calls = Arc::default();
    let server = raw::serve(greeting(&calls)).await;
    let proxy = proxy(&server, "Basic other").await;
    let url = format!("http://user:planted@{}", proxy.address);
    let config = config(&[("MODAL_SERVER_URL", "http://modal.example:8080"), ("ALL_PROXY", &url)]);
    let error = told(&Client::connect(config).await.unwrap_err());
    let reason = format!("the proxy at `{}` refused: HTTP/1.1 407", proxy.address);
    assert!(error.contains(&reason) && !error.contains("planted"), "{error}");
}

#[tokio::test]
async fn a_container_reaches_its_server_over_a_socket_and_sends_no_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("modal.sock");
    let calls = Arc::default();
    raw::serve_unix(&path, greeting(&calls));
    let url = format!("unix:{}", path.display());
    let config = config(&[("MODAL_SERVER_URL", &url), ("MODAL_IS_REMOTE", "1")]);
    let client = Client::connect(config).await.unwrap();
    assert_eq!(client.server_url(), url);
    client.verify().await.unwrap();
    let headers = calls.lock().unwrap()[0].clone();
    assert_eq!(headers.get("x-modal-client-type").unwrap(), "3");
    assert!(headers.get("x-modal-token-id").is_none() && headers.get("x-modal-host").is_none());
}

#[tokio::test]
async fn an_ipv6_address_is_an_address() {
    let calls = Arc::default();
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    raw::serve_on(listener, Arc::new(greeting(&calls)));
    support::client(&url).await.verify().await.unwrap();
    assert_eq!(calls.lock().unwrap()[0].get("x-modal-host").unwrap(), "::1");
}

/// An authority and a certificate of it for `localhost`.
fn certificates(directory: &Path) -> (String, Identity) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let root = directory.join("root.pem");
    std::fs::write(&root, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    (root.display().to_string(), Identity::from_pem(leaf.pem(), key.serialize_pem()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_the_machine_has_counts_and_one_that_it_has_not_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (root, identity) = certificates(directory.path());
    let calls = Arc::default();
    let port = raw::serve_tls(identity, greeting(&calls)).await;
    let url = format!("https://localhost:{port}");
    let started = Instant::now();
    let error = Client::connect(Config::new(&url, "ak-1", "as-1")).await.unwrap_err();
    assert!(told(&error).contains("certificate"), "{}", told(&error));
    assert!(started.elapsed() < Duration::from_secs(5), "a certificate does not change by waiting");
    // Roots are read once a process, so another one is asked.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "greets_the_server_of_the_environment", "--ignored"]);
    child.env("SSL_CERT_FILE", root).env_remove("SSL_CERT_DIR").env("SERVER", url);
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
#[ignore = "run by the test above, which sets SERVER and SSL_CERT_FILE"]
async fn greets_the_server_of_the_environment() {
    let url = std::env::var("SERVER").expect("this is no test by itself");
    let client = Client::connect(Config::new(&url, "ak-1", "as-1")).await.unwrap();
    client.verify().await.unwrap();
}

/// A control plane with one sandbox whose router is at `url`.
async fn sandbox(url: String) -> Sandbox {
    let control = raw::serve(move |call| {
        let answer = match call.method.as_str() {
            "SandboxWaitV2" => Answer::one(&api::SandboxWaitResponse::default()),
            "AuthTokenGet" => {
                Answer::one(&api::AuthTokenGetResponse { token: "e30.e30.s".to_owned() })
            }
            "SandboxGetTaskIdV2" => Answer::one(&api::SandboxGetTaskIdResponse {
                task_id: Some("ta-1".to_owned()),
                ..Default::default()
            }),
            "SandboxGetCommandRouterAccess" => {
                Answer::one(&api::SandboxGetCommandRouterAccessResponse {
                    jwt: "e30.e30.s".to_owned(),
                    url: url.clone(),
                    ..Default::default()
                })
            }
            other => panic!("{other}"),
        };
        async { answer }.boxed()
    })
    .await;
    let client = support::client(&control).await;
    client.sandboxes().from_id(&"sb-1".parse().unwrap()).await.unwrap()
}

fn exited(code: i32) -> Answer {
    let exit_status = Some(router::task_exec_wait_response::ExitStatus::Code(code));
    Answer::one(&router::TaskExecWaitResponse { exit_status })
}

fn commands(call: &Call) -> Answer {
    match call.method.as_str() {
        "TaskExecStart" => Answer::one(&router::TaskExecStartResponse {}),
        "TaskExecWait" => exited(0),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_router_that_comes_up_late_is_waited_for() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let sandbox = sandbox(format!("http://{address}")).await;
    // The clock goes ahead whenever all wait for it.
    tokio::time::pause();
    let starting = tokio::spawn(async move { sandbox.exec(["true"]).await.unwrap().wait().await });
    // Longer than all repetitions of a router's call take.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(!starting.is_finished());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    raw::serve_on(listener, Arc::new(|call| async move { commands(&call) }.boxed()));
    assert_eq!(starting.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_command_that_the_server_never_ends_is_given_up_after_its_time() {
    let url = raw::serve(|call| match call.method.as_str() {
        "TaskExecWait" => futures::future::pending().boxed(),
        _ => async move { commands(&call) }.boxed(),
    })
    .await;
    let process = sandbox(url).await.exec(["sleep"]).timeout(Duration::from_secs(1)).await.unwrap();
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let error = process.wait().await.unwrap_err();
    assert!(error.is_deadline(), "{error:?}");
    let taken = started.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&taken), "{taken:?}");
}

#[tokio::test]
async fn a_span_lives_as_long_as_its_stream_and_warnings_at_its_end_are_shown() {
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = Mutex::new(Some(wait));
    let url = raw::serve(move |call| {
        let wait = wait.lock().unwrap().take();
        let piece = |text: &str| -> Bytes {
            router::TaskExecStdioReadResponse { data: text.into() }.encode_to_vec().into()
        };
        let answer = match (call.method.as_str(), wait) {
            ("TaskExecStdioRead", Some(wait)) => {
                let second = stream::once(wait.map(move |_| piece("two")));
                let mut end = Status::new(Code::NotFound, "gone");
                let warning = "old%20client".parse().unwrap();
                end.metadata_mut().insert("x-modal-warning", warning);
                let first = piece("one");
                let messages = stream::iter([first]).chain(second).boxed();
                Answer { messages, status: Some(end) }
            }
            _ => panic!("{}", call.method),
        };
        async { answer }.boxed()
    })
    .await;
    let sandbox = sandbox(url).await;
    let mut output = sandbox.process("exec-1").stdout();
    let (spans, _guard) = Spans::collect();
    assert_eq!(output.next().await.unwrap().unwrap(), "one");
    assert!(spans.is_open("rpc TaskExecStdioRead"));
    go.send(()).unwrap();
    assert_eq!(output.next().await.unwrap().unwrap(), "two");
    assert!(output.next().await.unwrap().is_err());
    assert!(spans.is_closed("rpc TaskExecStdioRead"));
    assert_eq!(spans.warnings(), ["old client"]);
}

#[tokio::test]
async fn a_streamed_input_has_a_span_and_its_failure_may_warn() {
    let url = raw::serve(|call| {
        let answer = match call.method.as_str() {
            "TaskExecStart" => Answer::one(&router::TaskExecStartResponse {}),
            _ => {
                let mut status = Status::new(Code::InvalidArgument, "no");
                status.metadata_mut().insert("x-modal-warning", "so%20what".parse().unwrap());
                Answer::fail(status)
            }
        };
        async { answer }.boxed()
    })
    .await;
    let sandbox = sandbox(url).await;
    let (spans, _guard) = Spans::collect();
    sandbox.files().write("/x", "data").await.unwrap_err();
    assert!(spans.is_closed("rpc TaskExecStdinWriteStream"));
    assert_eq!(spans.warnings(), ["so what"]);
}

#[test]
fn the_password_of_the_tests_proxy_is_what_its_header_says() {
    let basic = base64::engine::general_purpose::STANDARD.encode("user:planted");
    assert_eq!(basic, "dXNlcjpwbGFudGVk");
}
