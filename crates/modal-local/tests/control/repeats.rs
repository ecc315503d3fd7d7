//! A server killed between what a call did and its answer: the client sends the call again, and it is not done twice.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use modal_local::daemon::{order_end, status, stop};
use modal_local::failpoint::{Point, VARIABLE};
use modal_local::{StateDir, TokenPair};
use modal_proto::client::volume_put_files2_request::File;
use modal_proto::client::*;

use crate::harness::{Client, WithToken};

/// A server of its own process, killed and started again over the same directory.
struct Killed {
    dir: tempfile::TempDir,
    child: Child,
}

impl Killed {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Self::spawn(&dir).await;
        Self { dir, child }
    }

    async fn spawn(dir: &tempfile::TempDir) -> Child {
        let state = Self::state(dir);
        let mut command = Command::new(env!("CARGO_BIN_EXE_modal-local"));
        command.args(["serve", "--state-dir"]).arg(state.root()).env(VARIABLE, Self::note(dir));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while status(&state).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        child
    }

    fn state(dir: &tempfile::TempDir) -> StateDir {
        StateDir::new(dir.path().join("state"))
    }

    fn note(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("reached")
    }

    /// A client whose calls all have this key.
    async fn client(&self, key: Option<&str>) -> Client {
        let json = std::fs::read(Self::state(&self.dir).server_json()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        let token = TokenPair::new(text("token_id"), text("token_secret").as_str());
        let channel = tonic::transport::Channel::from_shared(text("url")).unwrap();
        let key = key.map(str::to_owned);
        modal_proto::client::modal_client_client::ModalClientClient::with_interceptor(
            channel.connect().await.unwrap(),
            WithToken { token, key },
        )
    }

    /// Ends the server by SIGKILL between two calls, and starts the next one.
    async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.dir).await;
    }

    /// Makes a call that the server does not survive, and the same call once more to the next one.
    async fn twice<A>(
        &mut self,
        key: &str,
        call: impl AsyncFn(Client) -> Result<A, tonic::Status>,
    ) -> A {
        self.twice_at(Point::CallAnswered, key, call).await
    }

    async fn twice_at<A>(
        &mut self,
        point: Point,
        key: &str,
        call: impl AsyncFn(Client) -> Result<A, tonic::Status>,
    ) -> A {
        let client = self.client(Some(key)).await;
        order_end(&Self::state(&self.dir), point, 1).await.unwrap();
        assert!(call(client).await.is_err(), "the server answered");
        self.child.wait().unwrap();
        assert_eq!(std::fs::read_to_string(Self::note(&self.dir)).unwrap(), point.name());
        std::fs::remove_file(Self::note(&self.dir)).unwrap();
        self.child = Self::spawn(&self.dir).await;
        call(self.client(Some(key)).await).await.unwrap()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_call_that_was_done_before_a_kill_is_not_done_again() {
    let mut server = Killed::start().await;
    let create = AppCreateRequest { description: "run".into(), ..Default::default() };
    server.twice("app", async |mut client| client.app_create(create.clone()).await).await;
    let mut client = server.client(None).await;
    let apps = client.app_list(AppListRequest::default()).await.unwrap().into_inner().apps;
    assert_eq!(apps.len(), 1, "{apps:?}");

    let creation = ObjectCreationType::CreateIfMissing as i32;
    let queue = QueueGetOrCreateRequest {
        deployment_name: "q".into(),
        object_creation_type: creation,
        ..Default::default()
    };
    let queue_id = client.queue_get_or_create(queue).await.unwrap().into_inner().queue_id;
    let put = QueuePutRequest {
        queue_id: queue_id.clone(),
        values: vec![b"one".to_vec(), b"two".to_vec()],
        ..Default::default()
    };
    server.twice("put", async |mut client| client.queue_put(put.clone()).await).await;
    let get = QueueGetRequest { queue_id: queue_id.clone(), n_values: 1, ..Default::default() };
    let got = server.twice("get", async |mut client| client.queue_get(get.clone()).await).await;
    assert_eq!(got.into_inner().values, [b"one"], "the same item, not the next one");
    let mut client = server.client(None).await;
    let len = QueueLenRequest { queue_id, ..Default::default() };
    assert_eq!(client.queue_len(len).await.unwrap().into_inner().len, 1);

    let dict = DictGetOrCreateRequest {
        deployment_name: "d".into(),
        object_creation_type: creation,
        ..Default::default()
    };
    let dict_id = client.dict_get_or_create(dict).await.unwrap().into_inner().dict_id;
    let lease = DictUpdateRequest {
        dict_id: dict_id.clone(),
        updates: vec![DictEntry { key: b"lease".to_vec(), value: b"mine".to_vec() }],
        if_not_exists: true,
    };
    let got =
        server.twice("lease", async |mut client| client.dict_update(lease.clone()).await).await;
    assert!(got.into_inner().created, "the lease is this client's");
    let pop = DictPopRequest { dict_id, key: b"lease".to_vec() };
    let got = server.twice("pop", async |mut client| client.dict_pop(pop.clone()).await).await;
    assert_eq!(got.into_inner().value.as_deref(), Some(&b"mine"[..]));
    assert!(stop(&Killed::state(&server.dir)).await.unwrap());
}

/// One of everything, by its id.
#[derive(Debug, PartialEq)]
struct Made {
    secret: String,
    volume: String,
    dict: String,
    queue: String,
    app: String,
}

/// Makes what must not exist. Calls of different RPCs may share a key.
async fn make(mut client: Client) -> Made {
    let deployment_name = "made".to_owned();
    let object_creation_type = ObjectCreationType::CreateFailIfExists as i32;
    let environment =
        EnvironmentCreateRequest { name: deployment_name.clone(), ..Default::default() };
    client.environment_create(environment).await.unwrap();
    let secret = SecretGetOrCreateRequest {
        deployment_name: deployment_name.clone(),
        object_creation_type,
        env_dict: [("KEY".to_owned(), "value".to_owned())].into(),
        ..Default::default()
    };
    let volume = VolumeGetOrCreateRequest {
        deployment_name: deployment_name.clone(),
        object_creation_type,
        ..Default::default()
    };
    let dict = DictGetOrCreateRequest {
        deployment_name: deployment_name.clone(),
        object_creation_type,
        data: vec![DictEntry { key: b"k".to_vec(), value: b"v".to_vec() }],
        ..Default::default()
    };
    let queue =
        QueueGetOrCreateRequest { deployment_name, object_creation_type, ..Default::default() };
    let app = AppGetOrCreateRequest {
        app_name: "deployed".to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing as i32,
        ..Default::default()
    };
    let made = Made {
        secret: client.secret_get_or_create(secret).await.unwrap().into_inner().secret_id,
        volume: client.volume_get_or_create(volume).await.unwrap().into_inner().volume_id,
        dict: client.dict_get_or_create(dict).await.unwrap().into_inner().dict_id,
        queue: client.queue_get_or_create(queue).await.unwrap().into_inner().queue_id,
        app: client.app_get_or_create(app).await.unwrap().into_inner().app_id,
    };
    let len = DictLenRequest { dict_id: made.dict.clone() };
    assert_eq!(client.dict_len(len).await.unwrap().into_inner().len, 1);
    made
}

/// Publishes, replaces and goes back: a version each, with the time of it as the answer.
async fn deploy(mut client: Client, app: &str) -> Vec<f64> {
    let app_id = app.to_owned();
    let publish = AppPublishRequest {
        app_id: app_id.clone(),
        name: "deployed".to_owned(),
        app_state: AppState::Deployed as i32,
        ..Default::default()
    };
    let rollover = AppRolloverRequest { app_id: app_id.clone() };
    let rollback = AppRollbackRequest { app_id, version: -1 };
    vec![
        client.app_publish(publish).await.unwrap().into_inner().deployed_at,
        client.app_rollover(rollover).await.unwrap().into_inner().deployed_at,
        client.app_rollback(rollback).await.unwrap().into_inner().deployed_at,
    ]
}

/// Which version each of them goes back to, newest first.
async fn versions(mut client: Client, app: &str) -> Vec<(u32, u32)> {
    let request = AppDeploymentHistoryRequest { app_id: app.to_owned() };
    let history = client.app_deployment_history(request).await.unwrap().into_inner();
    let version = |it: &AppDeploymentHistory| (it.version, it.rollback_version);
    history.app_deployment_histories.iter().map(version).collect()
}

/// Uploads files without contents where none may be.
async fn put(client: &mut Client, volume: &str, paths: &[&str]) -> Result<(), tonic::Status> {
    let file = |path: &&str| File { path: (*path).to_owned(), ..Default::default() };
    let request = VolumePutFiles2Request {
        volume_id: volume.to_owned(),
        files: paths.iter().map(file).collect(),
        disallow_overwrite_existing_files: true,
    };
    client.volume_put_files2(request).await.map(drop)
}

/// Uploads, copies a directory and removes another.
async fn copy_and_remove(mut client: Client, volume: &str) -> Result<(), tonic::Status> {
    put(&mut client, volume, &["from/a", "gone/b"]).await?;
    let copy = VolumeCopyFiles2Request {
        volume_id: volume.to_owned(),
        src_paths: vec!["from".to_owned()],
        dst_path: "to".to_owned(),
        recursive: true,
    };
    client.volume_copy_files2(copy).await?;
    let remove = VolumeRemoveFile2Request {
        volume_id: volume.to_owned(),
        path: "gone".to_owned(),
        recursive: true,
    };
    client.volume_remove_file2(remove).await.map(drop)
}

async fn list(mut client: Client, volume: &str) -> Vec<String> {
    let request = VolumeListFiles2Request {
        volume_id: volume.to_owned(),
        path: "/".to_owned(),
        recursive: true,
        ..Default::default()
    };
    let mut batches = client.volume_list_files2(request).await.unwrap().into_inner();
    let mut paths = Vec::new();
    while let Some(batch) = batches.message().await.unwrap() {
        paths.extend(batch.entries.into_iter().map(|entry| entry.path));
    }
    paths
}

/// Deletes what [`make`] has made.
async fn delete(mut client: Client, made: &Made) -> Result<(), tonic::Status> {
    client.secret_delete(SecretDeleteRequest { secret_id: made.secret.clone() }).await?;
    let volume = VolumeDeleteRequest { volume_id: made.volume.clone(), ..Default::default() };
    client.volume_delete(volume).await?;
    client.dict_delete(DictDeleteRequest { dict_id: made.dict.clone() }).await?;
    client.queue_delete(QueueDeleteRequest { queue_id: made.queue.clone() }).await?;
    let environment = EnvironmentDeleteRequest { name: "made".to_owned() };
    client.environment_delete(environment).await.map(drop)
}

#[tokio::test]
async fn what_was_made_changed_and_deleted_before_a_kill_is_answered_as_before() {
    let mut server = Killed::start().await;
    let made = make(server.client(Some("make")).await).await;
    let deployed = deploy(server.client(Some("deploy")).await, &made.app).await;
    copy_and_remove(server.client(Some("files")).await, &made.volume).await.unwrap();

    server.kill().await;
    assert_eq!(make(server.client(Some("make")).await).await, made);
    assert_eq!(deploy(server.client(Some("deploy")).await, &made.app).await, deployed);
    assert!(deployed.iter().all(|time| *time > 0.0), "0 says that nothing has changed");
    let versions = versions(server.client(None).await, &made.app).await;
    assert_eq!(versions, [(3, 1), (2, 0), (1, 0)], "once each, and back only once");
    let names = ["from", "from/a", "to", "to/a"];
    copy_and_remove(server.client(Some("files")).await, &made.volume).await.unwrap();
    assert_eq!(list(server.client(None).await, &made.volume).await, names);
    let other = copy_and_remove(server.client(Some("other")).await, &made.volume).await;
    assert_eq!(other.unwrap_err().code(), tonic::Code::AlreadyExists, "another call");

    delete(server.client(Some("delete")).await, &made).await.unwrap();
    server.kill().await;
    delete(server.client(Some("delete")).await, &made).await.unwrap();
    let again = delete(server.client(Some("again")).await, &made).await;
    assert_eq!(again.unwrap_err().code(), tonic::Code::NotFound, "another call");
    assert!(stop(&Killed::state(&server.dir)).await.unwrap());
}

#[tokio::test]
async fn files_that_a_killed_upload_left_are_its_own() {
    let mut server = Killed::start().await;
    let made = make(server.client(Some("make")).await).await;
    let upload = async |mut client: Client| put(&mut client, &made.volume, &["a", "b", "c"]).await;
    server.twice_at(Point::VolumePlaced, "upload", upload).await;
    assert_eq!(list(server.client(None).await, &made.volume).await, ["a", "b", "c"]);
    let other = upload(server.client(Some("other")).await).await;
    assert_eq!(other.unwrap_err().code(), tonic::Code::AlreadyExists);
    assert!(stop(&Killed::state(&server.dir)).await.unwrap());
}
