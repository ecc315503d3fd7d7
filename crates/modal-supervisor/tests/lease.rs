//! Two containers, one writer: the real program with a real PostgreSQL, and `modal-local` for Modal's Dict.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use futures::future::join_all;
use modal_client::Environ;
use modal_local::{Server, ServerConfig, StateDir};
use modal_supervisor::DictRegister;
use serde_json::json;
use service_supervisor::Register as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

/// Longer than anything here takes, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(90);
/// What a silent holder's lease lives, in seconds.
const EXPIRES: u64 = 3;

/// What all containers share: Modal, and the volume.
struct Scene {
    server: Server,
    place: TempDir,
}

struct Container {
    child: Child,
    said: Vec<String>,
    lines: Lines<BufReader<ChildStderr>>,
    _disk: TempDir,
}

/// One that the user of the database may pass through.
fn directory() -> TempDir {
    let open = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix("goat-lease-").permissions(open).tempdir().unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where PostgreSQL's programs lie; Debian does not put them on the PATH.
fn programs() -> PathBuf {
    let debian = (13..=18).rev().map(|it| PathBuf::from(format!("/usr/lib/postgresql/{it}/bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = debian.chain(std::env::split_paths(&path));
    places.find(|place| place.join("initdb").is_file()).expect("install Debian's `postgresql`")
}

impl Scene {
    async fn new() -> Self {
        let place = directory();
        let state = StateDir::new(place.path().join("modal"));
        let server = Server::start(ServerConfig::new(state)).await.unwrap();
        fs::create_dir(place.path().join("store")).unwrap();
        Self { server, place }
    }

    /// What a container knows of Modal. Outside of one the token stands for who it is.
    fn variables(&self) -> [(&'static str, String); 3] {
        let token = self.server.token();
        [
            ("MODAL_SERVER_URL", self.server.url().to_owned()),
            ("MODAL_TOKEN_ID", token.id.clone()),
            ("MODAL_TOKEN_SECRET", token.secret.expose().to_owned()),
        ]
    }

    fn register(&self) -> DictRegister {
        DictRegister::new("leases", Environ::from_pairs(self.variables()))
    }

    fn start(&self, wait: u64) -> Container {
        let disk = directory();
        let is_root = rustix::process::geteuid().is_root();
        let plan = json!({
            "postgres": {
                "name": "postgres",
                "programs": [programs()],
                "user": is_root.then_some("postgres"),
                "data": disk.path().join("data"),
                "store": self.place.path().join("store"),
                "port": free_port(),
                "database": "langfuse",
                "role": "PG_ROLE",
                "password": "PG_PASSWORD",
                "control": free_port(),
                "ready_within": 120,
                "lease": { "name": "goat-langfuse-lease", "expires": EXPIRES, "wait": wait },
            },
            "services": [{
                "name": "idle",
                "command": ["/bin/sleep", "1000"],
                "health": "started",
                "ready_within": 30,
            }],
        });
        let path = disk.path().join("plan.json");
        fs::write(&path, plan.to_string()).unwrap();
        // A copy: the database's user can't run what lies in a closed directory.
        let program = disk.path().join("supervisor");
        fs::copy(env!("CARGO_BIN_EXE_modal-supervisor"), &program).unwrap();
        let mut child = Command::new(program)
            .arg("run")
            .arg(path)
            .envs(self.variables())
            .envs([("PG_ROLE", "goat"), ("PG_PASSWORD", "secret"), ("NO_PROXY", "127.0.0.1")])
            .current_dir(disk.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Container { child, said: Vec::new(), lines, _disk: disk }
    }
}

impl Container {
    async fn says(&mut self, text: &str) {
        loop {
            let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
            let Ok(Ok(Some(line))) = line else {
                panic!("`{text}` was never said, but:\n{}", self.said.join("\n"));
            };
            self.said.push(line.clone());
            if line.contains(text) {
                return;
            }
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.id().unwrap().try_into().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    async fn ends(&mut self) -> Option<i32> {
        tokio::time::timeout(LIMIT, self.child.wait()).await.unwrap().unwrap().code()
    }
}

#[tokio::test]
async fn of_many_that_put_a_key_one_does() {
    let scene = Scene::new().await;
    let registers: Vec<_> = (0..8).map(|_| scene.register()).collect();
    assert_eq!(registers[0].get("epoch-1").await.unwrap(), None);
    let names: Vec<String> = (0..8).map(|number| format!("holder {number}")).collect();
    let putting = registers.iter().zip(&names);
    let put = join_all(putting.map(|(it, name)| it.put_if_absent("epoch-1", name))).await;
    let winners: Vec<_> = put.into_iter().map(Result::unwrap).zip(&names).collect();
    let winner: Vec<_> = winners.iter().filter(|(has_put, _)| *has_put).collect();
    assert_eq!(winner.len(), 1, "{winners:?}");
    assert_eq!(registers[7].get("epoch-1").await.unwrap().as_ref(), Some(winner[0].1));
    registers[3].put("beat-1", "7").await.unwrap();
    assert_eq!(registers[4].get("beat-1").await.unwrap().as_deref(), Some("7"));
    scene.server.stop().await;
}

#[tokio::test]
async fn one_container_writes_also_during_a_redeployment_and_after_a_lost_one() {
    let scene = Scene::new().await;
    let mut first = scene.start(60);
    first.says("holds lease 1").await;
    first.says("postgres is ready").await;

    // Another at the same time gets nothing.
    let mut second = scene.start(EXPIRES + 2);
    second.says("another container writes to this database").await;
    assert_eq!(second.ends().await, Some(3));

    // A redeployment: the new one waits until the old one has ended in order, and no longer.
    let mut third = scene.start(60);
    first.signal(rustix::process::Signal::TERM);
    third.says("holds lease 2").await;
    assert_eq!(first.ends().await, Some(0));
    third.says("postgres is ready").await;

    // A lost container: the next one waits for as long as the lease lives.
    third.signal(rustix::process::Signal::KILL);
    assert_eq!(third.ends().await, None);
    let began = Instant::now();
    let mut fourth = scene.start(60);
    fourth.says("holds lease 3").await;
    assert!(began.elapsed() >= Duration::from_secs(EXPIRES - 1), "{:?}", began.elapsed());
    fourth.says("postgres is ready").await;

    // Without Modal nobody knows who writes: it ends before another may go on.
    let Scene { server, place } = scene;
    server.stop().await;
    fourth.says("another container may write from now on").await;
    assert_eq!(fourth.ends().await, Some(3));
    drop(place);
}
