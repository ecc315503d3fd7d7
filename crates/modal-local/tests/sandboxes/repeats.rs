//! Calls about sandboxes that are sent again after the server was killed: a sandbox is made once, and a snapshot is
//! had though its sandbox is gone.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use modal_local::StateDir;
use modal_local::daemon::{order_end, status};
use modal_local::failpoint::{Point, VARIABLE};
use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::*;
use modal_proto::task_command_router::{
    TaskSnapshotDirectoryRequest, TaskSnapshotFilesystemRequest,
};

use crate::harness::{Client, Local, Router, client_at, router};

/// A server in a process of its own, over what the tests' server has prepared.
struct Killable {
    directory: tempfile::TempDir,
    app: String,
    image: String,
    child: Child,
}

impl Killable {
    async fn start() -> Self {
        let (directory, app, image) = Local::start_apart().await.leave().await;
        let child = Self::spawn(&directory).await;
        Self { directory, app, image, child }
    }

    async fn spawn(directory: &tempfile::TempDir) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modal-local"));
        command.args(["serve", "--state-dir"]).arg(directory.path());
        command.env(VARIABLE, Self::note(directory)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        while status(&StateDir::new(directory.path())).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        child
    }

    fn note(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("reached")
    }

    fn record(&self) -> serde_json::Value {
        let json = std::fs::read(StateDir::new(self.directory.path()).server_json()).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    async fn client(&self, key: &str) -> Client {
        let record = self.record();
        let text = |name: &str| record[name].as_str().unwrap().to_owned();
        let token = (text("token_id"), text("token_secret"));
        client_at(&text("url"), (&token.0, &token.1), Some(key)).await
    }

    /// The router of a sandbox, as its client knows it from the server before.
    async fn router(&self, access: &CommandRouterAccess) -> Router {
        let url = self.record()["url"].as_str().unwrap().to_owned();
        router(&CommandRouterAccess { url, ..access.clone() }).await
    }

    async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.directory).await;
    }

    /// Makes a call that the server does not survive.
    async fn killed_at<A: std::fmt::Debug>(
        &mut self,
        point: Point,
        call: impl Future<Output = Result<A, tonic::Status>>,
    ) {
        order_end(&StateDir::new(self.directory.path()), point, 1).await.unwrap();
        call.await.expect_err("the server answered");
        self.child.wait().unwrap();
        let reached = std::fs::read_to_string(Self::note(&self.directory)).unwrap();
        assert_eq!(reached, point.name());
        self.child = Self::spawn(&self.directory).await;
    }

    fn definition(&self) -> Sandbox {
        Sandbox {
            entrypoint_args: ["sleep", "600"].map(str::to_owned).to_vec(),
            image_id: self.image.clone(),
            timeout_secs: 300,
            ..Default::default()
        }
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_made_once_whenever_the_server_is_killed() {
    let mut server = Killable::start().await;
    let first = SandboxCreateV2Request {
        app_id: server.app.clone(),
        definition: Some(server.definition()),
        ..Default::default()
    };
    let second = SandboxCreateRequest {
        app_id: server.app.clone(),
        definition: Some(server.definition()),
        ..Default::default()
    };
    let mut client = server.client("create").await;
    server.killed_at(Point::CreateStarted, client.sandbox_create_v2(first.clone())).await;
    let mut client = server.client("create").await;
    let made = client.sandbox_create_v2(first).await.unwrap().into_inner();
    server.killed_at(Point::CreateRecorded, client.sandbox_create(second.clone())).await;
    let mut client = server.client("create").await;
    let other = client.sandbox_create(second).await.unwrap().into_inner();

    let request = SandboxListRequest {
        app_id: server.app.clone(),
        include_finished: true,
        ..Default::default()
    };
    let sandboxes = client.sandbox_list(request).await.unwrap().into_inner().sandboxes;
    let ids: Vec<&str> = sandboxes.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, [&*other.sandbox_id, &*made.sandbox_id]);
    for sandbox_id in [made.sandbox_id, other.sandbox_id] {
        let wait = SandboxWaitRequest { sandbox_id, timeout: 0.0 };
        let result = client.sandbox_wait_v2(wait).await.unwrap().into_inner().result.unwrap();
        assert_eq!(result.status(), GenericStatus::InternalFailure, "it went with its server");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_had_though_its_sandbox_went_with_the_server() {
    let mut server = Killable::start().await;
    let create = SandboxCreateV2Request {
        app_id: server.app.clone(),
        definition: Some(server.definition()),
        ..Default::default()
    };
    let mut client = server.client("create").await;
    let made = client.sandbox_create_v2(create).await.unwrap().into_inner();
    let access = made.command_router_access.clone().unwrap();
    let whole = TaskSnapshotFilesystemRequest {
        task_id: made.task_id.clone(),
        snapshot_id: "whole".to_owned(),
        ..Default::default()
    };
    let directory = TaskSnapshotDirectoryRequest {
        task_id: made.task_id.clone(),
        snapshot_id: "directory".to_owned(),
        path: b"/etc".to_vec(),
        ..Default::default()
    };
    let older = SandboxSnapshotFsRequest { sandbox_id: made.sandbox_id, ..Default::default() };
    let taken = async |mut router: Router| {
        let whole = router.task_snapshot_filesystem(whole.clone()).await?.into_inner().image_id;
        let directory = router.task_snapshot_directory(directory.clone()).await?.into_inner();
        Ok::<_, tonic::Status>([whole, directory.image_id])
    };
    let before = taken(server.router(&access).await).await.unwrap();
    server.killed_at(Point::CallAnswered, client.sandbox_snapshot_fs(older.clone())).await;
    assert_eq!(taken(server.router(&access).await).await.unwrap(), before);
    let mut client = server.client("create").await;
    let again = client.sandbox_snapshot_fs(older.clone()).await.unwrap().into_inner();
    assert!(again.result.is_some() && !before.contains(&again.image_id));
    let other = server.client("other").await.sandbox_snapshot_fs(older).await.unwrap_err();
    assert_eq!(other.code(), tonic::Code::FailedPrecondition, "another call: it has ended");

    let from_it = SandboxCreateV2Request {
        app_id: server.app.clone(),
        definition: Some(Sandbox { image_id: again.image_id, ..server.definition() }),
        ..Default::default()
    };
    server.client("new").await.sandbox_create_v2(from_it).await.unwrap();
    server.kill().await;
}
