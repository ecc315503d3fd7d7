//! An app under construction: its functions are announced and made there, with what they need.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use modal_proto::client as api;

use super::{
    Function, FunctionSpec,
    request::{self, Resolved},
    spec::Source,
};
use crate::{
    apps::App,
    client::Client,
    error::{Error, Operation, Result},
    heartbeat::Heartbeat,
    ids::{AppId, FunctionId, MountId, SecretId},
    image::{BuildEvent, BuiltImage, Image},
    local::LocalFile,
    mount,
    rpc::methods,
    secrets::Secret,
};

/// How often an app that is being deployed is kept alive, and how long one such call may take.
const HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEAT_LIMIT: Duration = Duration::from_millis(15_100);
/// Where the source of a function lies in its container.
const SOURCE_ROOT: &str = "/root";

/// Is told how images are built.
pub(super) type Listener = Arc<Mutex<dyn FnMut(BuildEvent<'_>) + Send>>;

/// An app under construction: where its parts go.
pub(super) struct Site {
    pub(super) client: Client,
    pub(super) app: AppId,
    pub(super) name: String,
    pub(super) listener: Option<Listener>,
}

/// What functions share: each is built or sent once.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) images: Vec<(Image, BuiltImage)>,
    pub(super) sources: Vec<(Source, MountId)>,
}

/// What the server said of a function before its definition was sent.
pub(super) struct Announced {
    pub(super) id: FunctionId,
    /// Empty where the server does not tell yet.
    pub(super) address: String,
}

/// What a deployment made of one spec.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) function: Function,
}

impl Site {
    pub(super) fn operation(&self, spec: &FunctionSpec) -> Operation {
        Operation::new("deploy", format!("function `{}` of app `{}`", spec.name, self.name))
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        let (client, app) = (self.client.clone(), self.app.clone());
        Heartbeat::start(HEARTBEAT, "an app", move || {
            let (client, app) = (client.clone(), app.clone());
            async move {
                let method = &methods::APP_HEARTBEAT;
                let operation = Operation::new("keep", format!("app `{app}`"));
                let mut options = client.options(method, operation).await?;
                options.deadline = Some(HEARTBEAT_LIMIT);
                let beat = api::AppHeartbeatRequest { app_id: app.to_string() };
                client.call_with(method, &beat, options).await
            }
        })
    }

    pub(super) async fn precreate(
        &self,
        spec: &FunctionSpec,
        existing: Option<String>,
    ) -> Result<Announced> {
        let query = request::precreate(&self.app, spec, existing);
        let operation = || self.operation(spec);
        let answer = self.client.call(&methods::FUNCTION_PRECREATE, &query, operation()).await?;
        let id = FunctionId::try_from(answer.function_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
        Ok(Announced { id, address: answer.handle_metadata.unwrap_or_default().web_url })
    }

    /// Sees to it that the server has everything that the function names.
    pub(super) async fn resolve(
        &self,
        spec: &FunctionSpec,
        client_mount: &Option<MountId>,
        parts: &mut Parts,
    ) -> Result<Resolved> {
        let secrets = self.secrets(spec).await?;
        let image = match parts.images.iter().find(|(image, _)| *image == spec.image) {
            Some((_, built)) => built.clone(),
            None => {
                let built = self.build(&spec.image).await?;
                parts.images.push((spec.image.clone(), built.clone()));
                built
            }
        };
        let source = match parts.sources.iter().find(|(source, _)| *source == spec.source) {
            Some((_, mount)) => mount.clone(),
            None => {
                let mount = self.source(spec).await?;
                parts.sources.push((spec.source.clone(), mount.clone()));
                mount
            }
        };
        let mut mounts = vec![source];
        mounts.extend(client_mount.clone());
        mounts.extend(image.mounts);
        Ok(Resolved { image: image.id, mounts, secrets })
    }

    async fn secrets(&self, spec: &FunctionSpec) -> Result<Vec<SecretId>> {
        let mut ids = Vec::new();
        for secret in &spec.secrets {
            ids.push(self.client.secrets().id_for_app(secret, &self.app).await?);
        }
        if !spec.env.is_empty() {
            let variables = spec.env.iter().map(|(name, value)| (name.clone(), value.clone()));
            let secret = Secret::from_map(variables);
            ids.push(self.client.secrets().id_for_app(&secret, &self.app).await?);
        }
        Ok(ids)
    }

    async fn build(&self, image: &Image) -> Result<BuiltImage> {
        let app = App { id: self.app.clone(), name: self.name.clone() };
        let build = self.client.build(image, &app);
        match self.listener.clone() {
            None => build.await,
            Some(listener) => {
                let tell = move |event: BuildEvent<'_>| {
                    (listener.lock().unwrap_or_else(PoisonError::into_inner))(event);
                };
                build.on_event(tell).await
            }
        }
    }

    /// The mount with the function's source.
    async fn source(&self, spec: &FunctionSpec) -> Result<MountId> {
        let file = match &spec.source {
            Source::File(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                crate::local::file(path, &format!("{SOURCE_ROOT}/{name}"))
                    .map_err(|error| Error::file(self.operation(spec), error.path, error.source))?
            }
            Source::Text { module, text } => {
                LocalFile::in_memory(text.clone(), format!("{SOURCE_ROOT}/{module}.py"))
            }
        };
        Ok(mount::create_of_found(&self.client, &self.app, vec![file]).await?.id)
    }

    pub(super) async fn create(
        &self,
        spec: &FunctionSpec,
        id: &FunctionId,
        resolved: &Resolved,
    ) -> Result<Made> {
        let operation = || self.operation(spec);
        let module = spec.module().map_err(|problem| Error::invalid(operation(), problem))?;
        let query = request::create(&self.app, &self.name, module, spec, resolved, id);
        let answer = self.client.call(&methods::FUNCTION_CREATE, &query, operation()).await?;
        for warning in &answer.server_warnings {
            tracing::warn!("{}", warning.message);
        }
        let metadata = answer.handle_metadata.unwrap_or_default();
        let function =
            Function::of(&self.client, answer.function_id, &spec.name, metadata, operation)?;
        Ok(Made { name: spec.name.clone(), function })
    }
}
