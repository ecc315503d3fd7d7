//! Sidecars: containers beside a sandbox's main one, each with an image, a network and a life of its own.
//!
//! A sidecar is a [`LiveSandbox`] that no registry and no record knows: what runs a sandbox's main container runs it too. It ends with
//! its sandbox, and is remembered as long as that is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;

use super::create;
use super::ending::Ending;
use super::live::LiveSandbox;
use super::neighbours::MAIN;
use super::spec::SandboxSpec;
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// What ids of containers begin with.
const PREFIX: &str = "co-";
/// Ended sidecars of one sandbox that are remembered.
const MAX_ENDED: usize = 64;

/// The sidecars of one sandbox, oldest first.
#[derive(Default)]
pub(crate) struct Sidecars {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    all: Vec<Arc<LiveSandbox>>,
    /// The sandbox ends: no more are taken.
    closed: bool,
}

impl Sidecars {
    /// Enters one that is about to be made. Names of those that ended are free again.
    fn enter(&self, sidecar: &Arc<LiveSandbox>) -> Result<()> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Error::not_found("running sandbox", sidecar.sandbox_id()));
        }
        let mut living = inner.all.iter().filter(|it| it.ending().is_none());
        if living.any(|it| it.container_name() == sidecar.container_name()) {
            return Err(Error::already_exists("running sidecar", sidecar.container_name()));
        }
        inner.all.push(Arc::clone(sidecar));
        let ended = inner.all.iter().filter(|it| it.ending().is_some()).count();
        let mut surplus = ended.saturating_sub(MAX_ENDED);
        inner.all.retain(|it| {
            let goes = surplus > 0 && it.ending().is_some();
            surplus -= usize::from(goes);
            !goes
        });
        Ok(())
    }

    fn close(&self) -> Vec<Arc<LiveSandbox>> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.all.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveSandbox {
    /// The id of this one container.
    pub(crate) fn container_id(&self) -> String {
        let id = self.id.as_str();
        format!("{PREFIX}{}", id.split_once('-').map_or(id, |(_, rest)| rest))
    }

    /// Its containers, the main one first.
    pub(crate) fn containers(self: &Arc<Self>) -> Vec<Arc<LiveSandbox>> {
        let sidecars = self.sidecars.lock().all.clone();
        [Arc::clone(self)].into_iter().chain(sidecars).collect()
    }

    /// Its container of this id; without one, the main container.
    pub(crate) fn container_of_id(self: &Arc<Self>, id: &str) -> Result<Arc<LiveSandbox>> {
        if id.is_empty() {
            return Ok(Arc::clone(self));
        }
        let found = self.containers().into_iter().find(|it| it.container_id() == id);
        found.ok_or_else(|| Error::not_found("container", id))
    }

    /// Its newest container of this name.
    pub(crate) fn container_of_name(
        self: &Arc<Self>,
        name: &str,
        include_ended: bool,
    ) -> Result<Arc<LiveSandbox>> {
        let containers = self.containers().into_iter().rev();
        let mut containers = containers.filter(|it| include_ended || it.ending().is_none());
        let found = containers.find(|it| it.container_name() == name);
        found.ok_or_else(|| Error::not_found("container", name))
    }

    /// Makes a sidecar; returns when its program runs.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if a living one has the name, `NotFound` if the sandbox has ended.
    pub(crate) async fn create_sidecar(
        self: &Arc<Self>,
        ctx: &Ctx,
        name: String,
        spec: SandboxSpec,
    ) -> Result<Arc<LiveSandbox>> {
        if name == MAIN {
            return Err(Error::invalid(format!("the name `{MAIN}` is the main container's")));
        }
        self.container()?;
        let app = ctx.apps.get_running(&self.app).await?;
        let sidecar = Arc::new(LiveSandbox::sidecar(self, name));
        self.sidecars.enter(&sidecar)?;
        let ctx = ctx.clone();
        // In a task of its own: a client that goes away does not leave half a container, which nobody would end.
        let making =
            tokio::spawn(async move { make(&ctx, sidecar, spec, &app.environment_id).await });
        making.await.unwrap_or_else(|_| Err(Error::invalid("the sidecar was not made")))
    }

    /// Ends the sidecars, and waits until they have ended; none can be made any more.
    pub(super) async fn end_sidecars(&self) {
        let sidecars = self.sidecars.close();
        for sidecar in &sidecars {
            sidecar.request_stop(Ending::terminated("its sandbox ended"));
        }
        join_all(sidecars.iter().map(|sidecar| sidecar.ended())).await;
    }
}

async fn make(
    ctx: &Ctx,
    sidecar: Arc<LiveSandbox>,
    spec: SandboxSpec,
    environment: &str,
) -> Result<Arc<LiveSandbox>> {
    match create::start(ctx, &sidecar, spec, environment).await {
        Ok(()) => Ok(sidecar),
        Err(error) => {
            sidecar.neighbours.leave(sidecar.container_name());
            sidecar.neighbours.write_names().await;
            sidecar.set_ended(Ending::init_failure(error.to_string()));
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AppId, SandboxId, TaskId};

    fn sandbox() -> Arc<LiveSandbox> {
        let (id, task) = (SandboxId::random_v2(), TaskId::random_v2());
        Arc::new(LiveSandbox::new(id, task, AppId::random()))
    }

    fn sidecar(sandbox: &LiveSandbox, name: &str) -> Arc<LiveSandbox> {
        Arc::new(LiveSandbox::sidecar(sandbox, name.to_owned()))
    }

    #[tokio::test]
    async fn a_name_is_one_living_sidecars() {
        let sandbox = sandbox();
        let (first, second) = (sidecar(&sandbox, "web"), sidecar(&sandbox, "web"));
        sandbox.sidecars.enter(&first).unwrap();
        let error = sandbox.sidecars.enter(&second).unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }));
        first.set_ended(Ending::terminated(""));
        let gone = sandbox.container_of_name("web", false).err();
        assert!(gone.is_some_and(|error| error.is_not_found()));
        sandbox.sidecars.enter(&second).unwrap();
        let found = sandbox.container_of_name("web", true).unwrap();
        assert_eq!(found.container_id(), second.container_id());
        let found = sandbox.container_of_id(&first.container_id()).unwrap();
        assert!(Arc::ptr_eq(&found, &first));
        assert_eq!(first.sandbox_id(), &sandbox.id);
    }

    #[tokio::test]
    async fn an_ending_sandbox_takes_no_more() {
        let sandbox = sandbox();
        sandbox.end_sidecars().await;
        assert!(sandbox.sidecars.enter(&sidecar(&sandbox, "late")).unwrap_err().is_not_found());
    }
}
