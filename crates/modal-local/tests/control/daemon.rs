//! The background process: one a state directory, found again, replaced when dead, gone when told.

use std::process::Command;
use std::time::Duration;

use modal_local::StateDir;
use modal_local::daemon::{ensure_running, status, stop};
use modal_proto::client::{AppGetOrCreateRequest, ObjectCreationType};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::connect;

struct Daemon {
    state: StateDir,
    dir: tempfile::TempDir,
}

impl Daemon {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { state: StateDir::new(dir.path().join("state")), dir }
    }

    fn command(&self, extra: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modal-local"));
        command.args(["serve", "--detach", "--state-dir"]).arg(self.state.root()).args(extra);
        command
    }
}

/// Waits for something that must come; the test runner ends a test that waits in vain.
async fn until(what: impl AsyncFn() -> bool) {
    while !what().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn url(daemon: &Daemon) -> Option<(String, i32)> {
    status(&daemon.state).await.unwrap().map(|status| (status.url, status.pid))
}

#[tokio::test]
async fn commands_at_the_same_time_find_one_server() {
    let daemon = Daemon::new();
    let start = || ensure_running(&daemon.state, daemon.command(&[]));
    let (one, two, three) = tokio::join!(start(), start(), start());
    let one = one.unwrap();
    assert_eq!((one.pid, one.pid), (two.unwrap().pid, three.unwrap().pid));
    let mut client = connect(&one.url, one.token.clone()).await;
    client.environment_list(()).await.unwrap();
    assert_eq!(start().await.unwrap().pid, one.pid);
    assert!(stop(&daemon.state).await.unwrap());
    assert!(!stop(&daemon.state).await.unwrap());
    assert!(!daemon.state.server_json().exists());
}

#[tokio::test]
async fn an_idle_server_of_another_build_is_replaced() {
    let daemon = Daemon::new();
    let first = ensure_running(&daemon.state, daemon.command(&[])).await.unwrap();
    let rebuilt = daemon.dir.path().join("rebuilt");
    std::fs::copy(env!("CARGO_BIN_EXE_modal-local"), &rebuilt).unwrap();
    let mut command = Command::new(&rebuilt);
    command.args(["serve", "--detach", "--state-dir"]).arg(daemon.state.root());
    let second = ensure_running(&daemon.state, command).await.unwrap();
    assert_ne!(first.pid, second.pid);
    assert_eq!(url(&daemon).await.unwrap().1, second.pid);
    assert!(stop(&daemon.state).await.unwrap());
}

#[tokio::test]
async fn two_servers_never_share_a_directory() {
    let daemon = Daemon::new();
    let mut first = daemon.command(&[]).spawn().unwrap();
    until(async || url(&daemon).await.is_some()).await;
    let second = daemon.command(&[]).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another server already uses"), "{said}");
    assert!(stop(&daemon.state).await.unwrap());
    first.wait().unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let daemon = Daemon::new();
    let mut first = daemon.command(&[]).spawn().unwrap();
    until(async || url(&daemon).await.is_some()).await;
    let keys = std::fs::read(daemon.state.server_json()).unwrap();
    let keys: serde_json::Value = serde_json::from_slice(&keys).unwrap();
    let text = |name: &str| keys[name].as_str().unwrap().to_owned();
    let token = modal_local::TokenPair::new(text("token_id"), text("token_secret").as_str());
    let app = |kind: ObjectCreationType| AppGetOrCreateRequest {
        app_name: "kept".to_owned(),
        object_creation_type: kind as i32,
        ..Default::default()
    };
    let mut client = connect(&text("url"), token.clone()).await;
    let made = client.app_get_or_create(app(ObjectCreationType::CreateIfMissing)).await.unwrap();
    kill_process(Pid::from_raw(first.id() as i32).unwrap(), Signal::KILL).unwrap();
    first.wait().unwrap();
    assert!(url(&daemon).await.is_none(), "its lock died with it");
    let mut second = daemon.command(&[]).spawn().unwrap();
    until(async || url(&daemon).await.is_some()).await;
    let (address, _) = url(&daemon).await.unwrap();
    let mut client = connect(&address, token).await;
    let found = client.app_get_or_create(app(ObjectCreationType::Unspecified)).await.unwrap();
    assert_eq!(found.into_inner().app_id, made.into_inner().app_id);
    assert!(stop(&daemon.state).await.unwrap());
    second.wait().unwrap();
}

#[tokio::test]
async fn an_idle_server_ends_itself() {
    let daemon = Daemon::new();
    let mut child = daemon.command(&["--idle-exit-secs", "0"]).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!daemon.state.server_json().exists());
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let daemon = Daemon::new();
    let error = ensure_running(&daemon.state, daemon.command(&["--port", "x"])).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`--port` needs a number"), "{text}");
    assert!(text.contains("server.log"), "{text}");
}
