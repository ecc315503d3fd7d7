//! Images: a base and steps on it, described as data and built layer by layer by the server.
//!
//! The layers are those that Modal's Python client 1.6.4 asks for, word for word, so that they hit the
//! same cache entries.

mod build;
mod context;
mod dockerfile;
mod logs;
mod python;
mod quote;

use std::{collections::BTreeMap, path::PathBuf};

pub use build::{BuildEvent, BuiltImage, ImageBuild};

use context::Context;

use crate::{
    gpu::Gpu, ids::ImageId, ignore_rules::IgnoreRules, mount::LocalFiles, secrets::Secret,
};

/// A description of an image: what [`Client::build`](crate::Client::build) makes. Nothing is asked or read until then.
///
/// ```
/// use modal_client::Image;
///
/// let image = Image::debian_slim()
///     .python("3.11")
///     .apt_install(["git", "ripgrep"])
///     .pip_install(["requests==2.32.3"])
///     .env([("LANG", "C.UTF-8")])
///     .workdir("/workspace");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub(crate) base: Base,
    pub(crate) base_options: LayerOptions,
    pub(crate) steps: Vec<Step>,
    pub(crate) mounts: Vec<LocalFiles>,
    pub(crate) force_build: bool,
    /// A mistake in the description, kept until it is built.
    pub(crate) mistake: Option<String>,
}

/// What an image starts from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Base {
    DebianSlim { python: Option<String> },
    Registry { tag: String, add_python: Option<String>, secret: Option<Secret>, setup: Vec<String> },
    Dockerfile { path: PathBuf, add_python: Option<String>, secret: Option<Secret> },
    Existing(ImageId),
}

/// One layer on the base.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) kind: StepKind,
    pub(crate) options: LayerOptions,
}

/// With what a layer is built.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct LayerOptions {
    pub(crate) secrets: Vec<Secret>,
    pub(crate) gpu: Option<Gpu>,
    pub(crate) force_build: bool,
    /// Of Dockerfile commands.
    pub(crate) context: Context,
    /// Of Dockerfile commands.
    pub(crate) build_args: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StepKind {
    AptInstall(Vec<String>),
    PipInstall { packages: Vec<String>, options: PipOptions },
    UvPipInstall { packages: Vec<String>, options: PipOptions },
    Run(Vec<String>),
    Env(Vec<(String, String)>),
    Workdir(String),
    Dockerfile(Vec<String>),
    CopyLocal(LocalFiles),
}

/// Where pip takes packages from, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PipOptions {
    /// `--find-links`.
    pub find_links: Option<String>,
    /// `--index-url`.
    pub index_url: Option<String>,
    /// `--extra-index-url`.
    pub extra_index_url: Option<String>,
    /// `--pre`: also packages that are not released yet.
    pub pre: bool,
    /// More options, as on a command line.
    pub extra_options: String,
}

impl Image {
    /// Debian with Python, Modal's own base; the Python is 3.11 unless [`python`](Self::python) says otherwise.
    pub fn debian_slim() -> Self {
        Self::on(Base::DebianSlim { python: None })
    }

    /// An image of a registry: `ubuntu:24.04`.
    pub fn from_registry(tag: impl Into<String>) -> Self {
        Self::on(Base::Registry {
            tag: tag.into(),
            add_python: None,
            secret: None,
            setup: Vec::new(),
        })
    }

    /// An image of a registry, with Dockerfile commands on it.
    pub fn from_dockerfile_commands(
        tag: impl Into<String>,
        commands: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self::from_registry(tag).dockerfile_commands(commands)
    }

    /// The image that a local Dockerfile describes. Files that it copies are taken from the current directory,
    /// or from [`context_dir`](Self::context_dir), without those that its `.dockerignore` leaves out.
    ///
    /// ```
    /// use modal_client::Image;
    ///
    /// let image = Image::from_dockerfile("service/Dockerfile").context_dir("service").add_python("3.12");
    /// ```
    pub fn from_dockerfile(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut image =
            Self::on(Base::Dockerfile { path: path.clone(), add_python: None, secret: None });
        image.base_options.context.dockerfile = Some(path);
        image
    }

    /// An image that was built before.
    pub fn from_id(id: ImageId) -> Self {
        Self::on(Base::Existing(id))
    }

    fn on(base: Base) -> Self {
        Self {
            base,
            base_options: LayerOptions::default(),
            steps: Vec::new(),
            mounts: Vec::new(),
            force_build: false,
            mistake: None,
        }
    }

    /// The Python of a [`debian_slim`](Self::debian_slim) image: a series such as `3.11`, or a full version.
    #[must_use]
    pub fn python(mut self, version: impl Into<String>) -> Self {
        match &mut self.base {
            Base::DebianSlim { python } => *python = Some(version.into()),
            _ => {
                self.mistaken("`python` is for `debian_slim`; a registry image takes `add_python`")
            }
        }
        self
    }

    /// Adds Modal's own build of this Python series to an image of a registry or a Dockerfile that has none.
    #[must_use]
    pub fn add_python(mut self, series: impl Into<String>) -> Self {
        match &mut self.base {
            Base::Registry { add_python, .. } | Base::Dockerfile { add_python, .. } => {
                *add_python = Some(series.into());
            }
            _ => self.mistaken("`add_python` is for `from_registry` and `from_dockerfile`"),
        }
        self
    }

    /// Logs in to the registry with this secret; its keys say how (`REGISTRY_USERNAME` and
    /// `REGISTRY_PASSWORD`, the `AWS_…` keys, or `SERVICE_ACCOUNT_JSON`).
    #[must_use]
    pub fn registry_secret(mut self, login: Secret) -> Self {
        match &mut self.base {
            Base::Registry { secret, .. } | Base::Dockerfile { secret, .. } => {
                *secret = Some(login);
            }
            _ => self.mistaken("`registry_secret` is for `from_registry` and `from_dockerfile`"),
        }
        self
    }

    /// Installs Debian packages.
    #[must_use]
    pub fn apt_install(self, packages: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let packages = strings(packages);
        if packages.is_empty() { self } else { self.step(StepKind::AptInstall(packages)) }
    }

    /// Installs Python packages.
    #[must_use]
    pub fn pip_install(self, packages: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.pip_install_with(packages, PipOptions::default())
    }

    /// Installs Python packages, from somewhere else than usual or with other options.
    #[must_use]
    pub fn pip_install_with(
        mut self,
        packages: impl IntoIterator<Item = impl Into<String>>,
        options: PipOptions,
    ) -> Self {
        let packages = strings(packages);
        if packages.is_empty() {
            return self;
        }
        if packages.iter().any(|package| package.starts_with('-')) {
            self.mistaken(
                "packages of `pip_install` cannot be options; use `PipOptions::extra_options`",
            );
        }
        self.step(StepKind::PipInstall { packages, options })
    }

    /// Installs Python packages with uv, which is faster than pip.
    #[must_use]
    pub fn uv_pip_install(self, packages: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.uv_pip_install_with(packages, PipOptions::default())
    }

    /// Installs Python packages with uv, from somewhere else than usual or with other options.
    #[must_use]
    pub fn uv_pip_install_with(
        mut self,
        packages: impl IntoIterator<Item = impl Into<String>>,
        options: PipOptions,
    ) -> Self {
        let packages = strings(packages);
        if packages.is_empty() {
            return self;
        }
        if packages.iter().any(|package| package.starts_with('-')) {
            self.mistaken(
                "packages of `uv_pip_install` cannot be options; use `PipOptions::extra_options`",
            );
        }
        self.step(StepKind::UvPipInstall { packages, options })
    }

    /// Runs shell commands, as `RUN` does.
    #[must_use]
    pub fn run_commands(self, commands: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let commands = strings(commands);
        if commands.is_empty() { self } else { self.step(StepKind::Run(commands)) }
    }

    /// Sets environment variables for later steps and for sandboxes.
    #[must_use]
    pub fn env(
        self,
        variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let variables: Vec<_> =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        if variables.is_empty() { self } else { self.step(StepKind::Env(variables)) }
    }

    /// Sets the working directory for later steps and for sandboxes.
    #[must_use]
    pub fn workdir(self, path: impl Into<String>) -> Self {
        self.step(StepKind::Workdir(path.into()))
    }

    /// Adds Dockerfile commands as they are. What they `COPY` is taken from the current directory, or from
    /// [`context_dir`](Self::context_dir), without what its `.dockerignore` leaves out.
    #[must_use]
    pub fn dockerfile_commands(
        self,
        commands: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let commands = strings(commands);
        if commands.is_empty() { self } else { self.step(StepKind::Dockerfile(commands)) }
    }

    /// Sets what sandboxes run their command with.
    #[must_use]
    pub fn entrypoint(self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let command = dockerfile::json_command("ENTRYPOINT", &strings(arguments));
        self.dockerfile_commands([command])
    }

    /// Sets what sandboxes run that name no command.
    #[must_use]
    pub fn cmd(self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let command = dockerfile::json_command("CMD", &strings(arguments));
        self.dockerfile_commands([command])
    }

    /// The directory that `COPY` takes files from, for the Dockerfile or the
    /// [`dockerfile_commands`](Self::dockerfile_commands) before this call.
    #[must_use]
    pub fn context_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        if let Some(options) = self.dockerfile_options("context_dir") {
            options.context.directory = Some(directory.into());
        }
        self
    }

    /// Leaves these files of the context out, instead of those that `.dockerignore` names; for the Dockerfile
    /// or the [`dockerfile_commands`](Self::dockerfile_commands) before this call.
    #[must_use]
    pub fn ignore(mut self, rules: IgnoreRules) -> Self {
        if let Some(options) = self.dockerfile_options("ignore") {
            options.context.ignore = Some(rules);
        }
        self
    }

    /// The value of an `ARG`, for the Dockerfile or the [`dockerfile_commands`](Self::dockerfile_commands)
    /// before this call. It is kept with the image: for anything secret there is [`with_secret`](Self::with_secret).
    #[must_use]
    pub fn build_arg(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Some(options) = self.dockerfile_options("build_arg") {
            options.build_args.insert(name.into(), value.into());
        }
        self
    }

    /// The variables of this secret are there while the step before this call runs, and in no layer.
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        if let Some(options) = self.step_options("with_secret") {
            options.secrets.push(secret);
        }
        self
    }

    /// The step before this call runs on a machine with this GPU.
    #[must_use]
    pub fn with_gpu(mut self, gpu: Gpu) -> Self {
        if let Some(options) = self.step_options("with_gpu") {
            options.gpu = Some(gpu);
        }
        self
    }

    /// The step before this call (the base, where there is none) and those behind it are built again,
    /// though they were built before.
    #[must_use]
    pub fn with_force_build(mut self) -> Self {
        match self.steps.last_mut() {
            Some(step) => step.options.force_build = true,
            None => self.base_options.force_build = true,
        }
        self
    }

    /// The options of the step before, or of a base that runs commands.
    fn step_options(&mut self, call: &str) -> Option<&mut LayerOptions> {
        if self.steps.is_empty() && !matches!(self.base, Base::Dockerfile { .. }) {
            self.mistaken(&format!("`{call}` belongs behind a step"));
            return None;
        }
        Some(self.steps.last_mut().map_or(&mut self.base_options, |step| &mut step.options))
    }

    fn dockerfile_options(&mut self, call: &str) -> Option<&mut LayerOptions> {
        let is_dockerfile = match self.steps.last() {
            Some(step) => matches!(step.kind, StepKind::Dockerfile(_)),
            None => matches!(self.base, Base::Dockerfile { .. }),
        };
        if !is_dockerfile {
            self.mistaken(&format!(
                "`{call}` belongs behind `from_dockerfile` or `dockerfile_commands`"
            ));
            return None;
        }
        self.step_options(call)
    }

    /// Shows a local file at `remote` in sandboxes, without making it a part of the image. Comes last:
    /// no step can follow. A `remote` that ends with a slash is a directory.
    #[must_use]
    pub fn add_local_file(mut self, path: impl Into<PathBuf>, remote: impl AsRef<str>) -> Self {
        self.mounts.push(LocalFiles::file(path.into(), remote.as_ref()));
        self
    }

    /// Shows a local directory at `remote` in sandboxes, without making it a part of the image. Comes last.
    #[must_use]
    pub fn add_local_dir(mut self, root: impl Into<PathBuf>, remote: impl Into<String>) -> Self {
        self.mounts.push(LocalFiles::tree(root.into(), remote.into()));
        self
    }

    /// Copies a local file into the image.
    #[must_use]
    pub fn copy_local_file(self, path: impl Into<PathBuf>, remote: impl AsRef<str>) -> Self {
        self.step(StepKind::CopyLocal(LocalFiles::file(path.into(), remote.as_ref())))
    }

    /// As [`add_local_dir`](Self::add_local_dir), without the files that these rules leave out.
    #[must_use]
    pub fn add_local_dir_without(
        mut self,
        root: impl Into<PathBuf>,
        remote: impl Into<String>,
        ignore: IgnoreRules,
    ) -> Self {
        self.mounts.push(LocalFiles::tree_without(root.into(), remote.into(), ignore));
        self
    }

    /// As [`copy_local_dir`](Self::copy_local_dir), without the files that these rules leave out.
    #[must_use]
    pub fn copy_local_dir_without(
        self,
        root: impl Into<PathBuf>,
        remote: impl Into<String>,
        ignore: IgnoreRules,
    ) -> Self {
        let files = LocalFiles::tree_without(root.into(), remote.into(), ignore);
        self.step(StepKind::CopyLocal(files))
    }

    /// Copies a local directory into the image.
    #[must_use]
    pub fn copy_local_dir(self, root: impl Into<PathBuf>, remote: impl Into<String>) -> Self {
        self.step(StepKind::CopyLocal(LocalFiles::tree(root.into(), remote.into())))
    }

    /// Whether every layer is built again, though it was built before.
    #[must_use]
    pub fn force_build(mut self, force: bool) -> Self {
        self.force_build = force;
        self
    }

    fn step(mut self, kind: StepKind) -> Self {
        if !self.mounts.is_empty() {
            self.mistaken(
                "a build step follows `add_local_file` or `add_local_dir`; call those last, or copy the files with `copy_local_…`",
            );
        }
        self.steps.push(Step { kind, options: LayerOptions::default() });
        self
    }

    fn mistaken(&mut self, mistake: &str) {
        self.mistake.get_or_insert_with(|| mistake.to_owned());
    }
}

fn strings(items: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}
