//! A server killed between what a call did and its answer: the client sends the call again, and it is not done twice.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use modal_local::daemon::{order_end, status, stop};
use modal_local::failpoint::{Point, VARIABLE};
use modal_local::{StateDir, TokenPair};
use modal_proto::client::{
    AppCreateRequest, AppListRequest, DictEntry, DictGetOrCreateRequest, DictPopRequest,
    DictUpdateRequest, ObjectCreationType, QueueGetOrCreateRequest, QueueGetRequest,
    QueueLenRequest, QueuePutRequest,
};

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

    /// Makes a call that the server does not survive, and the same call once more to the next one.
    async fn twice<A>(
        &mut self,
        key: &str,
        call: impl AsyncFn(Client) -> Result<A, tonic::Status>,
    ) -> A {
        let client = self.client(Some(key)).await;
        order_end(&Self::state(&self.dir), Point::CallAnswered, 1).await.unwrap();
        assert!(call(client).await.is_err(), "the server answered");
        self.child.wait().unwrap();
        assert_eq!(std::fs::read_to_string(Self::note(&self.dir)).unwrap(), "record.answered");
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
