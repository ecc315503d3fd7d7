//! What a command runs in: a sandbox, or a container of a function.

use std::path::PathBuf;
use std::sync::Arc;

use container_runtime::Container;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::task::Task;
use crate::ids::TaskId;
use crate::sandbox::{Environment, ExecTable, LiveSandbox, Use};

/// A container that takes commands.
#[derive(Clone)]
pub(super) enum Host {
    Sandbox(Arc<LiveSandbox>),
    /// Its program runs.
    Function(Arc<Task>),
}

/// What a command starts with.
pub(super) struct Surroundings {
    pub(super) container: Container,
    pub(super) env: Environment,
    pub(super) workdir: PathBuf,
    pub(super) spill_dir: PathBuf,
}

impl Host {
    /// The container of a task; sandboxes are found for a while after their end.
    pub(super) fn find(ctx: &Ctx, task: &TaskId) -> Result<Self> {
        match ctx.functions.find_task(task) {
            Some((_, task)) => {
                task.place()?;
                Ok(Self::Function(task))
            }
            None => ctx.sandboxes.of_task(task).map(Self::Sandbox),
        }
    }

    /// The one of its containers that a command is for: without an id, the main one.
    pub(super) fn container(&self, id: &str) -> Result<Self> {
        match self {
            Self::Sandbox(sandbox) => sandbox.container_of_id(id).map(Self::Sandbox),
            Self::Function(_) if id.is_empty() => Ok(self.clone()),
            Self::Function(_) => Err(Error::not_found("container", id)),
        }
    }

    /// Commands of all its containers.
    pub(super) fn execs(&self) -> Result<&ExecTable> {
        match self {
            Self::Sandbox(sandbox) => Ok(&sandbox.execs),
            Self::Function(task) => Ok(&task.place()?.execs),
        }
    }

    pub(super) fn surroundings(&self) -> Result<Surroundings> {
        Ok(match self {
            Self::Sandbox(sandbox) => {
                let (container, running) = (sandbox.container()?, sandbox.running()?);
                Surroundings {
                    container,
                    env: running.env.clone(),
                    workdir: running.workdir.clone(),
                    spill_dir: running.spill_dir.clone(),
                }
            }
            Self::Function(task) => {
                let place = task.place()?;
                Surroundings {
                    container: place.container()?,
                    env: place.env.clone(),
                    workdir: place.workdir.clone(),
                    spill_dir: place.spill_dir.clone(),
                }
            }
        })
    }

    /// Counts a use, for a sandbox's idle time-out.
    pub(super) fn begin(&self) -> Option<Use> {
        match self {
            Self::Sandbox(sandbox) => Some(sandbox.activity.begin()),
            Self::Function(_) => None,
        }
    }
}
