//! What can go wrong, told so that a person knows which container, which step, and what to do.

use std::io;
use std::path::PathBuf;

use crate::spec::ContainerId;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the runtime could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This machine cannot isolate a process; nothing was started.
    #[error("this machine cannot run containers: {reason}; {hint}")]
    Unsupported {
        /// The step of the probe that failed and how.
        reason: String,
        /// What would make it work.
        hint: String,
    },
    /// No program can become the spawner: the binary's `main` does not call [`crate::run_if_spawner`].
    #[error(
        "no spawner: call `container_runtime::run_if_spawner` first in `main`, or name a spawner program in `RuntimeConfig`"
    )]
    NoSpawner,
    /// A field of a specification makes no sense.
    #[error("invalid {field}: {reason}")]
    InvalidSpec {
        /// The field, as the caller knows it.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A step of making the container failed; nothing of it is left.
    #[error("container `{container}` could not be made: {stage}")]
    Setup {
        /// The container.
        container: ContainerId,
        /// The step, with the path it was about.
        stage: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container's program does not exist in its root.
    #[error("program `{program}` not found in container `{container}`")]
    ProgramNotFound {
        /// The container.
        container: ContainerId,
        /// The first word of the command.
        program: String,
    },
    /// The file exists but the kernel does not run it.
    #[error("program `{program}` of container `{container}` cannot be executed")]
    ProgramNotExecutable {
        /// The container.
        container: ContainerId,
        /// The first word of the command.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The working directory does not exist in the container or may not be entered.
    #[error("working directory `{}` of container `{container}` cannot be entered", cwd.display())]
    Workdir {
        /// The container.
        container: ContainerId,
        /// The directory.
        cwd: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another step between fork and exec failed.
    #[error("a program could not be started in container `{container}`: {stage}")]
    Exec {
        /// The container.
        container: ContainerId,
        /// The step.
        stage: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container has ended.
    #[error("container `{0}` has ended")]
    ContainerGone(ContainerId),
    /// The process has ended, so it takes no signals.
    #[error("the process in container `{0}` has ended")]
    ProcessGone(ContainerId),
    /// The spawner died or the runtime was shut down; every container went with it.
    #[error("the container runtime has stopped")]
    RuntimeGone,
    /// A file of the host could not be used.
    #[error("cannot {action} `{}`", path.display())]
    Host {
        /// What was being done.
        action: &'static str,
        /// The path on this machine.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A call of the operating system that concerns no path failed.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The program, not the machine, is at fault: it does not exist.
    #[must_use]
    pub fn is_program_not_found(&self) -> bool {
        matches!(self, Self::ProgramNotFound { .. })
    }

    /// The container or the runtime ended before or during the call.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::ContainerGone(_) | Self::ProcessGone(_) | Self::RuntimeGone)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn host(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Host { action, path, source }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
