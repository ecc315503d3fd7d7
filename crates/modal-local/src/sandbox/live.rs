//! One sandbox while it lives, and for its readers afterwards.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use container_runtime::Container;
use modal_proto::client::TunnelData;
use tokio::sync::watch;
use tokio::time::timeout;

use super::activity::Activity;
use super::attached::Attachments;
use super::ending::Ending;
use super::environment::Environment;
use super::execs::ExecTable;
use super::inbound::Inbound;
use super::neighbours::{MAIN, Neighbours};
use super::network::NetworkControl;
use super::process::RunningProcess;
use super::sidecars::Sidecars;
use super::snapshot::RootRecord;
use crate::error::{Error, Result};
use crate::ids::{AppId, SandboxId, TaskId};
use crate::logs::Source;

/// A sandbox that is being made, runs, or ended not long ago; or a sidecar of one.
pub(crate) struct LiveSandbox {
    pub(crate) id: SandboxId,
    pub(crate) task: TaskId,
    pub(crate) app: AppId,
    pub(crate) activity: Activity,
    pub(crate) execs: ExecTable,
    pub(super) attachments: Attachments,
    role: Role,
    /// Its containers, as they reach each other.
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) sidecars: Sidecars,
    running: OnceLock<Running>,
    /// Held while a snapshot is taken: a repeated call waits for the first one's.
    pub(crate) snapshotting: tokio::sync::Mutex<()>,
    stop: watch::Sender<Option<Ending>>,
    end: watch::Sender<Option<Ending>>,
    ready: watch::Sender<Readiness>,
}

/// Which container of a sandbox it is.
enum Role {
    Main,
    Sidecar { name: String, of: SandboxId },
}

/// What a sandbox has from its start on.
pub(crate) struct Running {
    /// Taken away when the sandbox ends.
    pub(crate) container: Mutex<Option<Container>>,
    pub(crate) entrypoint: RunningProcess,
    /// What commands inherit.
    pub(crate) env: Environment,
    pub(crate) workdir: PathBuf,
    pub(crate) tunnels: Vec<TunnelData>,
    /// What a snapshot is made of.
    pub(crate) root: RootRecord,
    /// What changes its network policy.
    pub(crate) network: NetworkControl,
    /// Who may connect to it.
    pub(crate) inbound: Inbound,
    /// Where output lies that does not fit in memory.
    pub(crate) spill_dir: PathBuf,
    /// Where changes to mounted images go.
    pub(crate) attached_dir: PathBuf,
}

/// What the readiness probe has found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Readiness {
    /// No probe was asked for.
    NoProbe,
    Waiting,
    /// Since this time.
    Ready(f64),
}

impl LiveSandbox {
    pub(crate) fn new(id: SandboxId, task: TaskId, app: AppId) -> Self {
        Self {
            id,
            task,
            app,
            activity: Activity::new(),
            execs: ExecTable::default(),
            attachments: Attachments::default(),
            role: Role::Main,
            neighbours: Arc::default(),
            sidecars: Sidecars::default(),
            running: OnceLock::new(),
            snapshotting: tokio::sync::Mutex::default(),
            stop: watch::Sender::new(None),
            end: watch::Sender::new(None),
            ready: watch::Sender::new(Readiness::NoProbe),
        }
    }

    /// A container beside the main one of `sandbox`.
    pub(super) fn sidecar(sandbox: &LiveSandbox, name: String) -> Self {
        Self {
            role: Role::Sidecar { name, of: sandbox.id.clone() },
            neighbours: Arc::clone(&sandbox.neighbours),
            ..Self::new(SandboxId::random_v2(), sandbox.task.clone(), sandbox.app.clone())
        }
    }

    /// Whether it is a container beside a sandbox's main one.
    pub(super) fn is_sidecar(&self) -> bool {
        matches!(self.role, Role::Sidecar { .. })
    }

    /// What the other containers of its sandbox call it.
    pub(crate) fn container_name(&self) -> &str {
        match &self.role {
            Role::Main => MAIN,
            Role::Sidecar { name, .. } => name,
        }
    }

    /// The sandbox that it is, or is beside.
    pub(super) fn sandbox_id(&self) -> &SandboxId {
        match &self.role {
            Role::Main => &self.id,
            Role::Sidecar { of, .. } => of,
        }
    }

    /// Whom lines of the log about it are of.
    pub(crate) fn log_source(&self) -> Source {
        Source::sandbox(&self.app, &self.task, self.sandbox_id())
    }

    /// What it has from its start on.
    pub(crate) fn running(&self) -> Result<&Running> {
        self.running.get().ok_or_else(|| {
            Error::Precondition(format!("sandbox `{}` has not started yet", self.id))
        })
    }

    /// Called once, when the entrypoint was started.
    pub(crate) fn set_running(&self, running: Running) {
        // A second call would be a mistake of ours; the first stays.
        let _ = self.running.set(running);
    }

    /// Its container, as long as it lives.
    pub(crate) fn container(&self) -> Result<Container> {
        let running = self.running()?;
        let container = running.container.lock().unwrap_or_else(PoisonError::into_inner);
        container
            .clone()
            .ok_or_else(|| Error::Missing(format!("Sandbox '{}' has already completed", self.id)))
    }

    /// From now on nothing can be started in it. Answers the container, the first time.
    pub(crate) fn close(&self) -> Option<Container> {
        let running = self.running.get()?;
        running.container.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks for the end; the first reason stays.
    pub(crate) fn request_stop(&self, ending: Ending) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(ending);
            first
        });
    }

    /// Returns when somebody asked for the end.
    pub(crate) async fn stop_requested(&self) -> Ending {
        wait_for_some(&self.stop).await
    }

    /// How it ended, if it did.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.end.borrow().clone()
    }

    /// Tells everybody that it ended.
    pub(crate) fn set_ended(&self, ending: Ending) {
        self.end.send_replace(Some(ending));
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Ending {
        wait_for_some(&self.end).await
    }

    /// Waits for its end, at most this long.
    pub(crate) async fn ended_within(&self, limit: Duration) -> Option<Ending> {
        timeout(limit, self.ended()).await.ok()
    }

    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        self.ready.send_replace(readiness);
    }

    /// Waits until the probe has succeeded; answers when that was.
    pub(crate) async fn ready(&self) -> Result<f64> {
        if *self.ready.borrow() == Readiness::NoProbe {
            let id = &self.id;
            return Err(Error::Precondition(format!("sandbox `{id}` has no readiness probe")));
        }
        let mut changes = self.ready.subscribe();
        let ready = async {
            loop {
                if let Readiness::Ready(at) = *changes.borrow_and_update() {
                    return at;
                }
                // The sender is `self`'s, so this cannot fail.
                let _ = changes.changed().await;
            }
        };
        tokio::select! {
            biased;
            at = ready => Ok(at),
            _ = self.ended() => {
                let id = &self.id;
                Err(Error::Precondition(format!("sandbox `{id}` ended before it was ready")))
            }
        }
    }

    /// Bytes of output kept for readers, in memory or on disk.
    pub(crate) fn retained(&self) -> u64 {
        let entrypoint = self.running.get().map_or(0, |running| running.entrypoint.retained());
        entrypoint + self.execs.retained()
    }
}

async fn wait_for_some(value: &watch::Sender<Option<Ending>>) -> Ending {
    let mut changes = value.subscribe();
    loop {
        let current = changes.borrow_and_update().clone();
        if let Some(ending) = current {
            return ending;
        }
        // The sender is the caller's, so this cannot fail.
        let _ = changes.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> LiveSandbox {
        LiveSandbox::new(SandboxId::random_v2(), TaskId::random_v2(), AppId::random())
    }

    #[tokio::test]
    async fn the_first_reason_to_stop_stays() {
        let sandbox = sandbox();
        sandbox.request_stop(Ending::timeout());
        sandbox.request_stop(Ending::terminated(""));
        assert_eq!(sandbox.stop_requested().await, Ending::timeout());
        assert_eq!(sandbox.ending(), None);
    }

    #[tokio::test]
    async fn readiness_needs_a_probe_and_a_life() {
        let sandbox = sandbox();
        assert!(sandbox.ready().await.unwrap_err().to_string().contains("no readiness probe"));
        sandbox.set_readiness(Readiness::Waiting);
        let (ready, ()) = tokio::join!(sandbox.ready(), async {
            sandbox.set_ended(Ending::timeout());
        });
        assert!(ready.unwrap_err().to_string().contains("ended before"));
        sandbox.set_readiness(Readiness::Ready(3.0));
        assert_eq!(sandbox.ready().await.unwrap(), 3.0);
    }
}
