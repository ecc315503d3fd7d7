//! A server of its own for each test, and the few calls that every test makes.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use modal_local::{BasePolicy, Server, ServerConfig, StateDir};
use modal_proto::client::modal_client_client::ModalClientClient;
use modal_proto::client::*;
use modal_proto::task_command_router::task_command_router_client::TaskCommandRouterClient;
use modal_proto::task_command_router::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Adds the same metadata to every call.
#[derive(Clone)]
pub(crate) struct Metadata(Vec<(&'static str, String)>);

impl Interceptor for Metadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            let value: AsciiMetadataValue = value.parse().unwrap();
            request.metadata_mut().insert(AsciiMetadataKey::from_static(name), value);
        }
        Ok(request)
    }
}

pub(crate) type Client = ModalClientClient<InterceptedService<Channel, Metadata>>;
pub(crate) type Router = TaskCommandRouterClient<InterceptedService<Channel, Metadata>>;

/// A server over a state directory of its own. The directory goes when the value does.
pub(crate) struct Local {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) app: String,
    pub(crate) image: String,
    config: ServerConfig,
    directory: tempfile::TempDir,
}

impl Local {
    /// A server whose only object is the test image, whose layers all tests share.
    pub(crate) async fn start() -> Self {
        Self::over(|prepared, own| {
            fs::create_dir(own).unwrap();
            for path in kept(prepared) {
                symlink(&path, own.join(path.file_name().unwrap())).unwrap();
            }
        })
        .await
    }

    /// One that may change its layers: it has its own names for their files.
    pub(crate) async fn start_apart() -> Self {
        Self::over(|prepared, own| {
            fs::create_dir(own).unwrap();
            let mut copy = std::process::Command::new("cp");
            copy.arg("-al").args(kept(prepared)).arg(own);
            assert!(copy.status().unwrap().success());
        })
        .await
    }

    async fn over(give_images: impl FnOnce(&Path, &Path)) -> Self {
        let prepared = prepare().await;
        let scratch = env!("CARGO_TARGET_TMPDIR");
        let directory = tempfile::Builder::new().prefix("sandboxes-").tempdir_in(scratch).unwrap();
        fs::copy(prepared.join("records.sqlite"), directory.path().join("records.sqlite")).unwrap();
        give_images(&prepared.join("images"), &directory.path().join("images"));
        let config = config(directory.path());
        let server = Server::start(config.clone()).await.unwrap();
        let mut client = client(&server).await;
        let app = app(&mut client, "tests").await;
        let image = image(&mut client, &app).await;
        Self { server, client, app, image, config, directory }
    }

    /// Ends the server without a chance to clear up, and starts another over what is left.
    pub(crate) async fn restart(self) -> Self {
        let Self { server, app, image, config, directory, client: old } = self;
        drop((server, old));
        let server = Server::start(config.clone()).await.unwrap();
        let client = client(&server).await;
        Self { server, client, app, image, config, directory }
    }

    /// Ends the server; what it leaves is for one in a process of its own.
    pub(crate) async fn leave(self) -> (tempfile::TempDir, String, String) {
        let Self { server, app, image, directory, client, .. } = self;
        drop(client);
        server.stop().await;
        (directory, app, image)
    }

    /// A definition that runs `argv` in the test image.
    pub(crate) fn definition(&self, argv: &[&str]) -> Sandbox {
        Sandbox {
            entrypoint_args: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            image_id: self.image.clone(),
            timeout_secs: 300,
            network_access: Some(NetworkAccess {
                network_access_type: network_access::NetworkAccessType::Blocked.into(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(crate) fn request(&self, definition: Sandbox) -> SandboxCreateV2Request {
        SandboxCreateV2Request {
            app_id: self.app.clone(),
            definition: Some(definition),
            ..Default::default()
        }
    }

    pub(crate) async fn create(&self, definition: Sandbox) -> Live {
        self.try_create(self.request(definition)).await.unwrap()
    }

    pub(crate) async fn try_create(&self, request: SandboxCreateV2Request) -> Result<Live, Status> {
        let mut client = self.client.clone();
        let created = client.sandbox_create_v2(request).await?.into_inner();
        let access = created.command_router_access.clone().unwrap();
        let router = router(&access).await;
        Ok(Live {
            id: created.sandbox_id.clone(),
            task: created.task_id.clone(),
            created,
            client,
            router,
        })
    }

    /// What the app's log has of a sandbox.
    pub(crate) async fn log_lines(&self, sandbox: &Live) -> Vec<TaskLogs> {
        let request = AppFetchLogsRequest {
            app_id: self.app.clone(),
            task_id: sandbox.task.clone(),
            ..Default::default()
        };
        let answer = self.client.clone().app_fetch_logs(request).await.unwrap().into_inner();
        answer.batches.into_iter().flat_map(|batch| batch.items).collect()
    }

    /// How many lines of a sandbox's standard output the app's log has.
    pub(crate) async fn count_stdout(&self, sandbox: &Live) -> u64 {
        let request = AppCountLogsRequest {
            app_id: self.app.clone(),
            task_id: sandbox.task.clone(),
            bucket_secs: 1 << 30,
            ..Default::default()
        };
        let answer = self.client.clone().app_count_logs(request).await.unwrap().into_inner();
        answer.buckets.iter().map(|bucket| bucket.stdout_logs).sum()
    }

    /// A call to the server's administration that succeeds; its answer.
    pub(crate) async fn administer(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> serde_json::Value {
        let token = self.server.token();
        let address = self.server.url().strip_prefix("http://").unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nx-modal-token-id: {}\r\n\
             x-modal-token-secret: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            token.id,
            token.secret.expose(),
            body.len(),
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 2"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    /// Builds a further image.
    pub(crate) async fn build(&self, commands: &[&str]) -> String {
        built(&mut self.client.clone(), &self.app, commands).await
    }

    /// Waits until the build of an image has ended.
    pub(crate) async fn joined(&self, image: &str) {
        join(&mut self.client.clone(), image).await;
    }

    /// The state directory.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The names of what lies in a directory of the state directory, in order.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path().join(directory)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Bytes of a file of the state directory; 0 if there is none.
    pub(crate) fn size(&self, file: &str) -> u64 {
        fs::metadata(self.directory.path().join(file)).map_or(0, |found| found.len())
    }

    /// A sandbox that sleeps, for commands.
    pub(crate) async fn sleeping(&self) -> Live {
        self.create(self.definition(&["sleep", "600"])).await
    }
}

/// A sandbox, and connections to both services.
pub(crate) struct Live {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) created: SandboxCreateV2Response,
    pub(crate) client: Client,
    pub(crate) router: Router,
}

impl Live {
    /// The result as of now, if it ended.
    pub(crate) async fn poll(&self) -> Option<GenericResult> {
        self.wait_for(0.0).await
    }

    /// The result; a sandbox that does not end within half a minute fails the test.
    pub(crate) async fn wait(&self) -> GenericResult {
        self.wait_for(30.0).await.expect("the sandbox still runs")
    }

    async fn wait_for(&self, timeout: f32) -> Option<GenericResult> {
        let request = SandboxWaitRequest { sandbox_id: self.id.clone(), timeout };
        let answer = self.client.clone().sandbox_wait_v2(request).await.unwrap().into_inner();
        assert!(!answer.metadata.unwrap().app_id.is_empty());
        answer.result
    }

    pub(crate) async fn terminate(&self) {
        let request = SandboxTerminateRequest { sandbox_id: self.id.clone() };
        self.client.clone().sandbox_terminate_v2(request).await.unwrap();
    }

    /// All that the entrypoint puts out from `offset` on, and the offset of the first message.
    pub(crate) async fn output(&self, stderr: bool, offset: u64) -> (u64, Vec<u8>) {
        let request = SandboxStdioReadV2Request {
            task_id: self.task.clone(),
            offset,
            file_descriptor: i32::from(stderr),
        };
        let mut messages =
            self.router.clone().sandbox_stdio_read_v2(request).await.unwrap().into_inner();
        let (mut start, mut data) = (None, Vec::new());
        while let Some(message) = messages.message().await.unwrap() {
            assert!(!message.data.is_empty());
            start.get_or_insert(message.starting_offset);
            data.extend(message.data);
        }
        (start.unwrap_or(offset), data)
    }

    pub(crate) async fn stdout(&self) -> String {
        String::from_utf8(self.output(false, 0).await.1).unwrap()
    }

    pub(crate) async fn stderr(&self) -> String {
        String::from_utf8(self.output(true, 0).await.1).unwrap()
    }

    /// A request to run `argv` with both outputs kept.
    pub(crate) fn command(&self, argv: &[&str]) -> TaskExecStartRequest {
        TaskExecStartRequest {
            task_id: self.task.clone(),
            exec_id: uuid::Uuid::new_v4().to_string(),
            command_args: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            stdout_config: TaskExecStdoutConfig::Pipe.into(),
            stderr_config: TaskExecStderrConfig::Pipe.into(),
            ..Default::default()
        }
    }

    pub(crate) async fn exec(&self, argv: &[&str]) -> Exec {
        self.start(self.command(argv)).await.unwrap()
    }

    /// Runs a shell script; its exit, output and errors.
    pub(crate) async fn sh(&self, script: &str) -> (i32, String, String) {
        let exec = self.exec(&["sh", "-c", script]).await;
        let (code, stdout, stderr) = tokio::join!(exec.wait(), exec.text(false), exec.text(true));
        (code, stdout, stderr)
    }

    pub(crate) async fn start(&self, request: TaskExecStartRequest) -> Result<Exec, Status> {
        let id = request.exec_id.clone();
        let mut router = self.router.clone();
        router.task_exec_start(request).await?;
        Ok(Exec { task: self.task.clone(), id, router })
    }
}

/// A command that was started.
pub(crate) struct Exec {
    pub(crate) task: String,
    pub(crate) id: String,
    pub(crate) router: Router,
}

impl Exec {
    /// The code as a shell shows it.
    pub(crate) async fn wait(&self) -> i32 {
        use task_exec_wait_response::ExitStatus::{Code, Signal};
        let request = TaskExecWaitRequest { task_id: self.task.clone(), exec_id: self.id.clone() };
        let waiting = async { self.router.clone().task_exec_wait(request).await.unwrap() };
        let answer = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        match answer.expect("the command still runs").into_inner().exit_status.unwrap() {
            Code(code) => code,
            Signal(signal) => 128 + signal,
        }
    }

    pub(crate) async fn poll(&self) -> Option<task_exec_poll_response::ExitStatus> {
        let request = TaskExecPollRequest { task_id: self.task.clone(), exec_id: self.id.clone() };
        self.router.clone().task_exec_poll(request).await.unwrap().into_inner().exit_status
    }

    pub(crate) async fn output(&self, stderr: bool, offset: u64) -> Vec<u8> {
        let request = TaskExecStdioReadRequest {
            task_id: self.task.clone(),
            exec_id: self.id.clone(),
            offset,
            file_descriptor: i32::from(stderr),
        };
        let mut messages =
            self.router.clone().task_exec_stdio_read(request).await.unwrap().into_inner();
        let mut data = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            assert!(!message.data.is_empty());
            data.extend(message.data);
        }
        data
    }

    /// The first piece of standard output.
    pub(crate) async fn first_output(&self) -> Vec<u8> {
        let (task_id, exec_id) = (self.task.clone(), self.id.clone());
        let request = TaskExecStdioReadRequest { task_id, exec_id, ..Default::default() };
        let mut messages =
            self.router.clone().task_exec_stdio_read(request).await.unwrap().into_inner();
        messages.message().await.unwrap().unwrap().data
    }

    pub(crate) async fn text(&self, stderr: bool) -> String {
        String::from_utf8(self.output(stderr, 0).await).unwrap()
    }

    pub(crate) async fn write(&self, offset: u64, data: &[u8], eof: bool) -> Result<(), Status> {
        let request = TaskExecStdinWriteRequest {
            task_id: self.task.clone(),
            exec_id: self.id.clone(),
            offset,
            data: data.to_vec(),
            eof,
        };
        self.router.clone().task_exec_stdin_write(request).await.map(drop)
    }
}

/// Variables as the wire carries them.
pub(crate) fn variables(pairs: &[(&str, &str)]) -> SecretSource {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let contents: HashMap<String, String> = pairs.collect();
    SecretSource { source: Some(secret_source::Source::Env(StringMap { contents })) }
}

fn config(state_dir: &Path) -> ServerConfig {
    let mut config = ServerConfig::new(StateDir::new(state_dir));
    config.spawner = Some(env!("CARGO_BIN_EXE_modal-local").into());
    config.bases = BasePolicy::Host;
    config
}

/// What servers may share of a prepared one's images. Work under way comes and goes with each.
fn kept(images: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(images).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.ends_with("scratch"))
}

/// A state directory with the test image in it. It is kept between runs, since copying this
/// machine's programs takes seconds; whether the image is still right is for the server to say.
async fn prepare() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prepared");
    fs::create_dir_all(&directory).unwrap();
    let lock = fs::File::create(directory.join("prepare.lock")).unwrap();
    tokio::task::block_in_place(|| lock.lock()).unwrap();
    let server = Server::start(config(&directory)).await.unwrap();
    let mut client = client(&server).await;
    let app = app(&mut client, "tests").await;
    image(&mut client, &app).await;
    drop(client);
    server.stop().await;
    directory
}

pub(crate) async fn router(access: &CommandRouterAccess) -> Router {
    let metadata = Metadata(vec![("authorization", format!("Bearer {}", access.jwt))]);
    let channel = connect(&access.url).await;
    TaskCommandRouterClient::with_interceptor(channel, metadata)
}

async fn connect(url: &str) -> Channel {
    Endpoint::new(url.to_owned()).unwrap().connect().await.unwrap()
}

async fn client(server: &Server) -> Client {
    let token = server.token();
    client_at(server.url(), (&token.id, token.secret.expose()), None).await
}

/// A client of a server with this token; all its calls carry the key.
pub(crate) async fn client_at(url: &str, token: (&str, &str), key: Option<&str>) -> Client {
    let mut metadata = vec![
        ("x-modal-client-version", "1.6.4".to_owned()),
        ("x-modal-client-type", "1".to_owned()),
        ("x-modal-token-id", token.0.to_owned()),
        ("x-modal-token-secret", token.1.to_owned()),
    ];
    metadata.extend(key.map(|key| ("x-idempotency-key", key.to_owned())));
    ModalClientClient::with_interceptor(connect(url).await, Metadata(metadata))
}

async fn app(client: &mut Client, name: &str) -> String {
    let request = AppGetOrCreateRequest {
        app_name: name.to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing.into(),
        ..Default::default()
    };
    client.app_get_or_create(request).await.unwrap().into_inner().app_id
}

async fn image(client: &mut Client, app: &str) -> String {
    built(client, app, &["FROM debian:12-slim", r#"CMD ["sleep", "172800"]"#]).await
}

async fn built(client: &mut Client, app: &str, commands: &[&str]) -> String {
    let request = ImageGetOrCreateRequest {
        image: Some(Image {
            dockerfile_commands: commands.iter().map(|line| (*line).to_owned()).collect(),
            ..Default::default()
        }),
        app_id: app.to_owned(),
        builder_version: "2025.06".to_owned(),
        ..Default::default()
    };
    let image = client.image_get_or_create(request).await.unwrap().into_inner();
    if image.result.is_none() {
        join(client, &image.image_id).await;
    }
    image.image_id
}

/// Waits until the build of an image has ended.
async fn join(client: &mut Client, image: &str) {
    let request = ImageJoinStreamingRequest {
        image_id: image.to_owned(),
        timeout: 55.0,
        ..Default::default()
    };
    let mut messages = client.image_join_streaming(request).await.unwrap().into_inner();
    while messages.message().await.unwrap().is_some() {}
}
