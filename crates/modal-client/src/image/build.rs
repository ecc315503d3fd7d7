//! Building: one request a layer, each on the one before it, and the log of what is not built yet.

use std::{collections::BTreeMap, fmt, future::IntoFuture};

use futures::future::BoxFuture;
use modal_proto::client as api;

use super::{
    Base, Image, LayerOptions, Step, StepKind,
    dockerfile::{self, BaseLayer},
    logs, python,
};
use crate::{
    apps::App,
    client::Client,
    error::{Error, Operation, Result},
    gpu::{self, Gpu},
    ids::{AppId, ImageId, MountId, SecretId},
    mount,
    rpc::methods,
    secrets::Secret,
};

/// An image that is ready, and the local files that sandboxes see with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuiltImage {
    /// Its id.
    pub id: ImageId,
    /// The mounts of `add_local_…`, which every sandbox of this image gets.
    pub mounts: Vec<MountId>,
}

/// What happens during a build.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildEvent<'a> {
    /// A layer is asked for; `layer` counts from 1.
    LayerStarted {
        /// Which layer.
        layer: usize,
        /// Of how many.
        layers: usize,
        /// Its last command.
        step: &'a str,
    },
    /// The builder printed something: whole lines or parts of lines, as they come.
    Output(&'a str),
    /// A layer is there.
    LayerFinished {
        /// Which layer.
        layer: usize,
        /// Whether it was there before.
        cached: bool,
    },
}

type Listener = Box<dyn FnMut(BuildEvent<'_>) + Send>;

/// Builds an image; see [`Client::build`].
#[must_use = "nothing is built until it is awaited"]
pub struct ImageBuild {
    recipe: Recipe,
    listener: Listener,
}

/// What is built, for whom.
#[derive(Debug)]
struct Recipe {
    client: Client,
    image: Image,
    app: AppId,
}

impl fmt::Debug for ImageBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageBuild").field("recipe", &self.recipe).finish_non_exhaustive()
    }
}

impl Client {
    /// Builds an image for an app, or finds that it was built before.
    ///
    /// # Errors
    /// [`Error::BuildFailed`] with the end of the output if a step fails; [`Error::Invalid`] if the
    /// description contradicts itself or names a Python that is not to be had.
    pub fn build(&self, image: &Image, app: &App) -> ImageBuild {
        let recipe = Recipe { client: self.clone(), image: image.clone(), app: app.id.clone() };
        ImageBuild { recipe, listener: Box::new(|_| {}) }
    }
}

impl ImageBuild {
    /// Calls `listener` with what the builder prints.
    pub fn on_log(self, mut listener: impl FnMut(&str) + Send + 'static) -> Self {
        self.on_event(move |event| {
            if let BuildEvent::Output(text) = event {
                listener(text);
            }
        })
    }

    /// Calls `listener` with everything that happens.
    pub fn on_event(mut self, listener: impl FnMut(BuildEvent<'_>) + Send + 'static) -> Self {
        self.listener = Box::new(listener);
        self
    }

    async fn send(mut self) -> Result<BuiltImage> {
        self.recipe.build(&mut self.listener).await
    }
}

impl IntoFuture for ImageBuild {
    type Output = Result<BuiltImage>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl Recipe {
    async fn build(&self, listener: &mut Listener) -> Result<BuiltImage> {
        if let Some(mistake) = &self.image.mistake {
            return Err(invalid(mistake));
        }
        let id = match &self.image.base {
            Base::Existing(id) if self.image.steps.is_empty() => from_id(&self.client, id).await?,
            _ => self.build_layers(listener).await?,
        };
        let mut mounts = Vec::new();
        for files in &self.image.mounts {
            mounts.push(mount::create(&self.client, &self.app, files).await?.id);
        }
        Ok(BuiltImage { id, mounts })
    }

    async fn build_layers(&self, listener: &mut Listener) -> Result<ImageId> {
        let builder = self.builder_version().await?;
        let base = self.base_layers(&builder).await?;
        let (first, layers) = (base.len(), base.len() + self.image.steps.len());
        let registry = self.registry_config().await?;
        let mut id = match &self.image.base {
            Base::Existing(id) => Some(id.clone()),
            _ => None,
        };
        let mut force = self.image.force_build || self.image.base_options.force_build;
        for (n, layer) in base.into_iter().enumerate() {
            let definition = self.base_definition(layer, registry.clone()).await?;
            let request = layer_request(definition, id.as_ref(), &self.app, &builder, force);
            id = Some(self.build_layer(request, n + 1, layers, listener).await?);
        }
        for (n, step) in self.image.steps.iter().enumerate() {
            force |= step.options.force_build;
            let definition = self.step_definition(step).await?;
            let request = layer_request(definition, id.as_ref(), &self.app, &builder, force);
            id = Some(self.build_layer(request, first + n + 1, layers, listener).await?);
        }
        id.ok_or_else(|| invalid("the image has no layer"))
    }

    async fn base_layers(&self, builder: &str) -> Result<Vec<BaseLayer>> {
        let layers = match &self.image.base {
            Base::Dockerfile { path, add_python, secret } => {
                let text = tokio::fs::read_to_string(path).await.map_err(|source| {
                    Error::file(Operation::new("build", "an image"), path, source)
                })?;
                dockerfile::dockerfile_layers(
                    &text,
                    add_python.as_deref(),
                    secret.is_some(),
                    builder,
                )
            }
            base => dockerfile::base_layers(base, builder),
        };
        layers.map_err(|problem| invalid(&problem))
    }

    async fn builder_version(&self) -> Result<String> {
        let version = match &self.client.shared.config.image_builder_version {
            Some(version) => version.clone(),
            None => environment_builder_version(&self.client).await?,
        };
        python::check_builder(&version).map_err(|problem| invalid(&problem))?;
        Ok(version)
    }

    async fn registry_config(&self) -> Result<api::ImageRegistryConfig> {
        let (Base::Registry { secret: Some(secret), .. }
        | Base::Dockerfile { secret: Some(secret), .. }) = &self.image.base
        else {
            return Ok(api::ImageRegistryConfig::default());
        };
        let kind = registry_auth(&secret.keys()).map_err(|problem| {
            Error::invalid(Operation::new("log in to", "a registry"), problem)
        })?;
        let id = self.client.secrets().id_for_app(secret, &self.app).await?;
        Ok(api::ImageRegistryConfig { registry_auth_type: kind.into(), secret_id: id.to_string() })
    }

    async fn base_definition(
        &self,
        layer: BaseLayer,
        registry: api::ImageRegistryConfig,
    ) -> Result<Definition> {
        let mut definition = Definition::new(layer.commands);
        if let Some(name) = &layer.mount {
            definition.context = Some(mount::global(&self.client, name).await?.id);
        }
        if layer.logs_in {
            definition.registry = registry;
        }
        definition.is_global = layer.is_global;
        if layer.is_dockerfile {
            self.add_options(&mut definition, &self.image.base_options).await?;
        }
        Ok(definition)
    }

    async fn step_definition(&self, step: &Step) -> Result<Definition> {
        let mut definition = Definition::new(dockerfile::step_commands(&step.kind));
        match &step.kind {
            StepKind::CopyLocal(files) => {
                definition.context = Some(mount::create(&self.client, &self.app, files).await?.id);
                definition.secrets = self.secret_ids(&step.options.secrets).await?;
                definition.gpu.clone_from(&step.options.gpu);
            }
            StepKind::Dockerfile(_) => self.add_options(&mut definition, &step.options).await?,
            _ => {
                definition.secrets = self.secret_ids(&step.options.secrets).await?;
                definition.gpu.clone_from(&step.options.gpu);
            }
        }
        Ok(definition)
    }

    /// What Dockerfile commands are built with.
    async fn add_options(&self, definition: &mut Definition, options: &LayerOptions) -> Result<()> {
        if let Some(files) = options.context.files(&definition.commands).await? {
            let mount = mount::create_of_found(&self.client, &self.app, files).await?;
            definition.context = Some(mount.id);
        }
        definition.secrets = self.secret_ids(&options.secrets).await?;
        definition.gpu.clone_from(&options.gpu);
        definition.build_args.clone_from(&options.build_args);
        Ok(())
    }

    async fn secret_ids(&self, secrets: &[Secret]) -> Result<Vec<SecretId>> {
        let mut ids = Vec::new();
        for secret in secrets {
            ids.push(self.client.secrets().id_for_app(secret, &self.app).await?);
        }
        Ok(ids)
    }

    async fn build_layer(
        &self,
        request: api::ImageGetOrCreateRequest,
        layer: usize,
        layers: usize,
        listener: &mut Listener,
    ) -> Result<ImageId> {
        let step = step_name(&request);
        listener(BuildEvent::LayerStarted { layer, layers, step: &step });
        let operation =
            || Operation::new("build", format!("image layer {layer} of {layers} (`{step}`)"));
        let answer = self.client.call(&methods::IMAGE_GET_OR_CREATE, &request, operation()).await?;
        let id = ImageId::try_from(answer.image_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
        let finished = answer.result.filter(logs::is_settled);
        let cached = finished.is_some();
        let mut output = logs::Tail::default();
        let result = match finished {
            Some(result) => result,
            None => {
                let mut on_text = |text: &str| {
                    output.push(text);
                    listener(BuildEvent::Output(text));
                };
                logs::join(&self.client, &id, operation(), &mut on_text).await?
            }
        };
        logs::check(&id, &step, &result, output)?;
        listener(BuildEvent::LayerFinished { layer, cached });
        Ok(id)
    }
}

fn invalid(problem: &str) -> Error {
    Error::invalid(Operation::new("build", "an image"), problem)
}

/// What one layer is made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Definition {
    pub(crate) commands: Vec<String>,
    pub(crate) context: Option<MountId>,
    pub(crate) secrets: Vec<SecretId>,
    pub(crate) registry: api::ImageRegistryConfig,
    pub(crate) gpu: Option<Gpu>,
    pub(crate) build_args: BTreeMap<String, String>,
    /// Whether it is Modal's own layer, cached for everybody.
    pub(crate) is_global: bool,
}

impl Definition {
    fn new(commands: Vec<String>) -> Self {
        Self { commands, ..Self::default() }
    }
}

pub(crate) fn layer_request(
    definition: Definition,
    below: Option<&ImageId>,
    app: &AppId,
    builder: &str,
    force_build: bool,
) -> api::ImageGetOrCreateRequest {
    let namespace = if definition.is_global {
        api::DeploymentNamespace::Global
    } else {
        api::DeploymentNamespace::Workspace
    };
    let base =
        below.map(|id| api::BaseImage { image_id: id.to_string(), docker_tag: "base".to_owned() });
    api::ImageGetOrCreateRequest {
        image: Some(api::Image {
            base_images: base.into_iter().collect(),
            dockerfile_commands: definition.commands,
            context_mount_id: definition.context.map(String::from).unwrap_or_default(),
            secret_ids: definition.secrets.into_iter().map(String::from).collect(),
            gpu_config: Some(gpu::config_of(definition.gpu.as_ref())),
            image_registry_config: Some(definition.registry),
            build_args: definition.build_args.into_iter().collect(),
            ..Default::default()
        }),
        app_id: app.to_string(),
        force_build,
        namespace: namespace.into(),
        builder_version: builder.to_owned(),
        ..Default::default()
    }
}

/// The last command of a layer: what it is about.
fn step_name(request: &api::ImageGetOrCreateRequest) -> String {
    let commands = request
        .image
        .as_ref()
        .map(|image| image.dockerfile_commands.as_slice())
        .unwrap_or_default();
    let shown = if commands.len() > 1 && request.namespace() == api::DeploymentNamespace::Global {
        commands.first()
    } else {
        commands.last()
    };
    shown.cloned().unwrap_or_default()
}

/// The kind of login that the keys of a secret are for.
fn registry_auth(keys: &[&str]) -> Result<api::RegistryAuthType, String> {
    let has = |key: &str| keys.contains(&key);
    let aws = has("AWS_ACCESS_KEY_ID") || has("AWS_ROLE_ARN");
    let gcp = has("SERVICE_ACCOUNT_JSON");
    let plain = has("REGISTRY_USERNAME") && has("REGISTRY_PASSWORD");
    match (aws, gcp, plain) {
        (true, false, false) => Ok(api::RegistryAuthType::Aws),
        (false, true, false) => Ok(api::RegistryAuthType::Gcp),
        (false, false, true) => Ok(api::RegistryAuthType::StaticCreds),
        _ => Err(format!(
            "the secret's keys ({}) must be exactly one of REGISTRY_USERNAME and REGISTRY_PASSWORD, the AWS_… keys, or SERVICE_ACCOUNT_JSON",
            keys.join(", ")
        )),
    }
}

async fn from_id(client: &Client, id: &ImageId) -> Result<ImageId> {
    let operation = || Operation::new("look up", format!("image `{id}`"));
    let query = api::ImageFromIdRequest { image_id: id.to_string() };
    let answer = client.call(&methods::IMAGE_FROM_ID, &query, operation()).await?;
    ImageId::try_from(answer.image_id)
        .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })
}

/// The builder version of the client's environment, asked for once.
async fn environment_builder_version(client: &Client) -> Result<String> {
    let name = client.environment_name();
    let mut known = client.shared.builder_versions.lock().await;
    if let Some(version) = known.get(&name) {
        return Ok(version.clone());
    }
    let version = client.environments().get(&name).await?.image_builder_version;
    known.insert(name, version.clone());
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_login_follows_from_the_keys() {
        let kind = |keys: &[&str]| registry_auth(keys).map(|kind| kind.as_str_name());
        assert_eq!(
            kind(&["REGISTRY_USERNAME", "REGISTRY_PASSWORD"]),
            Ok("REGISTRY_AUTH_TYPE_STATIC_CREDS")
        );
        assert_eq!(kind(&["AWS_ACCESS_KEY_ID"]), Ok("REGISTRY_AUTH_TYPE_AWS"));
        assert_eq!(kind(&["SERVICE_ACCOUNT_JSON"]), Ok("REGISTRY_AUTH_TYPE_GCP"));
        assert!(kind(&["REGISTRY_USERNAME"]).is_err());
        assert!(kind(&["SERVICE_ACCOUNT_JSON", "AWS_ROLE_ARN"]).is_err());
    }
}
