//! Images: a base and steps on it, described as data and built layer by layer by the server.
//!
//! The layers are those that Modal's Python client 1.6.4 asks for, word for word, so that they hit the
//! same cache entries.

mod build;
mod dockerfile;
mod logs;
mod python;
mod quote;

use std::path::PathBuf;

pub use build::{BuildEvent, BuiltImage, ImageBuild};

use crate::{ids::ImageId, mount::LocalFiles, secrets::Secret};

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
    Existing(ImageId),
}

/// One layer on the base.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) kind: StepKind,
    pub(crate) secrets: Vec<Secret>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StepKind {
    AptInstall(Vec<String>),
    PipInstall { packages: Vec<String>, options: PipOptions },
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

    /// An image that was built before.
    pub fn from_id(id: ImageId) -> Self {
        Self::on(Base::Existing(id))
    }

    fn on(base: Base) -> Self {
        Self { base, steps: Vec::new(), mounts: Vec::new(), force_build: false, mistake: None }
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

    /// Adds Modal's own build of this Python series to a registry image that has none.
    #[must_use]
    pub fn add_python(mut self, series: impl Into<String>) -> Self {
        match &mut self.base {
            Base::Registry { add_python, .. } => *add_python = Some(series.into()),
            _ => self.mistaken("`add_python` is for `from_registry`"),
        }
        self
    }

    /// Logs in to the registry with this secret; its keys say how (`REGISTRY_USERNAME` and
    /// `REGISTRY_PASSWORD`, the `AWS_…` keys, or `SERVICE_ACCOUNT_JSON`).
    #[must_use]
    pub fn registry_secret(mut self, login: Secret) -> Self {
        match &mut self.base {
            Base::Registry { secret, .. } => *secret = Some(login),
            _ => self.mistaken("`registry_secret` is for `from_registry`"),
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

    /// Adds Dockerfile commands as they are. `COPY` of local files is not among them: see [`copy_local_dir`](Self::copy_local_dir).
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

    /// The variables of this secret are there while the step before this call runs, and in no layer.
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        match self.steps.last_mut() {
            Some(step) => step.secrets.push(secret),
            None => self.mistaken("`with_secret` belongs behind a step"),
        }
        self
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
        self.steps.push(Step { kind, secrets: Vec::new() });
        self
    }

    fn mistaken(&mut self, mistake: &str) {
        self.mistake.get_or_insert_with(|| mistake.to_owned());
    }
}

fn strings(items: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}
