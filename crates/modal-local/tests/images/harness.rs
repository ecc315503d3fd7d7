//! A server of its own for each test, and building an image in one call.

use std::path::Path;

use modal_local::{BasePolicy, Server, ServerConfig, StateDir};
use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::modal_client_client::ModalClientClient;
use modal_proto::client::*;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub(crate) type Client = ModalClientClient<InterceptedService<Channel, Token>>;

#[derive(Clone)]
pub(crate) struct Token {
    id: String,
    secret: String,
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("x-modal-token-id", self.id.parse().unwrap());
        request.metadata_mut().insert("x-modal-token-secret", self.secret.parse().unwrap());
        Ok(request)
    }
}

pub(crate) struct Local {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

/// How a build ended, and its log.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) id: String,
    pub(crate) result: GenericResult,
    pub(crate) log: String,
}

impl Build {
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.result.status(), GenericStatus::Success, "{self:#?}");
        self
    }

    pub(crate) fn failed(self) -> String {
        assert_eq!(self.result.status(), GenericStatus::Failure, "{self:#?}");
        self.result.exception
    }
}

pub(crate) fn config(directory: &Path, bases: BasePolicy) -> ServerConfig {
    let mut config = ServerConfig::new(StateDir::new(directory));
    config.spawner = Some(env!("CARGO_BIN_EXE_modal-local").into());
    config.bases = bases;
    config
}

/// On the file system of the target directory: temporary ones may be in memory.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("images-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Gives `state` the base made of this machine's programs, and answers its image. It is made by the
/// first test that needs it and kept in the target directory; the layer itself is shared.
pub(crate) async fn prepared_base(state: &Path) -> String {
    let prepared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images-prepared");
    let lock = prepared.with_extension("lock");
    let lock = tokio::task::spawn_blocking(|| {
        let file = std::fs::File::create(lock).unwrap();
        file.lock().unwrap();
        file
    });
    let lock = lock.await.unwrap();
    let local = Local::start(&prepared, BasePolicy::Host).await;
    let base = local.build(image(&["FROM python:3.11-slim-bookworm"])).await.succeeded();
    let note = "this machine's own programs stand in for it";
    assert!(base.log.is_empty() || base.log.contains(note), "{}", base.log);
    local.server.stop().await;
    let layers = state.join("images/layers");
    std::fs::create_dir_all(&layers).unwrap();
    for layer in std::fs::read_dir(prepared.join("images/layers")).unwrap() {
        let layer = layer.unwrap();
        std::os::unix::fs::symlink(layer.path(), layers.join(layer.file_name())).unwrap();
    }
    std::fs::copy(prepared.join("records.sqlite"), state.join("records.sqlite")).unwrap();
    drop(lock);
    base.id
}

impl Local {
    pub(crate) async fn start(directory: &Path, bases: BasePolicy) -> Self {
        let server = Server::start(config(directory, bases)).await.unwrap();
        let token = server.token();
        let token = Token { id: token.id.clone(), secret: token.secret.expose().to_owned() };
        let channel = Channel::from_shared(server.url().to_owned()).unwrap();
        let channel = channel.connect().await.unwrap();
        let client = ModalClientClient::with_interceptor(channel, token);
        Self { server, client }
    }

    pub(crate) async fn get_or_create(
        &self,
        request: ImageGetOrCreateRequest,
    ) -> Result<ImageGetOrCreateResponse, Status> {
        self.client.clone().image_get_or_create(request).await.map(|answer| answer.into_inner())
    }

    pub(crate) async fn build(&self, image: Image) -> Build {
        self.build_with(request(image)).await
    }

    /// Builds and follows to the end, as the SDK does.
    pub(crate) async fn build_with(&self, request: ImageGetOrCreateRequest) -> Build {
        let answer = self.get_or_create(request).await.unwrap();
        let id = answer.image_id;
        if let Some(result) = answer.result {
            return Build { id, result, log: String::new() };
        }
        let (mut log, mut seen) = (String::new(), String::new());
        loop {
            for message in self.join(&id, &seen, 55.0).await {
                log.extend(message.task_logs.into_iter().map(|line| line.data));
                if !message.entry_id.is_empty() {
                    seen = message.entry_id;
                }
                if let Some(result) = message.result {
                    return Build { id, result, log };
                }
            }
        }
    }

    /// One stream, to its end.
    pub(crate) async fn join(
        &self,
        id: &str,
        last_entry_id: &str,
        timeout: f32,
    ) -> Vec<ImageJoinStreamingResponse> {
        let request = ImageJoinStreamingRequest {
            image_id: id.to_owned(),
            timeout,
            last_entry_id: last_entry_id.to_owned(),
            include_logs_for_finished: true,
        };
        let mut stream =
            self.client.clone().image_join_streaming(request).await.unwrap().into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            messages.push(message);
        }
        messages
    }

    pub(crate) async fn secret(&self, name: &str, value: &str) -> String {
        let request = SecretGetOrCreateRequest {
            object_creation_type: ObjectCreationType::Ephemeral.into(),
            env_dict: [(name.to_owned(), value.to_owned())].into(),
            ..Default::default()
        };
        self.client.clone().secret_get_or_create(request).await.unwrap().into_inner().secret_id
    }
}

pub(crate) fn request(image: Image) -> ImageGetOrCreateRequest {
    ImageGetOrCreateRequest {
        image: Some(image),
        builder_version: "2025.06".to_owned(),
        ..Default::default()
    }
}

pub(crate) fn image(commands: &[&str]) -> Image {
    Image {
        dockerfile_commands: commands.iter().map(|command| (*command).to_owned()).collect(),
        ..Default::default()
    }
}

/// `FROM base` and these commands.
pub(crate) fn image_on(base: &str, commands: &[&str]) -> Image {
    let mut image = image(&["FROM base"]);
    image.dockerfile_commands.extend(commands.iter().map(|command| (*command).to_owned()));
    image.base_images.push(BaseImage { image_id: base.to_owned(), docker_tag: "base".to_owned() });
    image
}
