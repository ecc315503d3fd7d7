//! The sandboxes in memory: those that live, and the newest that ended, whose output can be read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::live::LiveSandbox;
use crate::error::{Error, Result};
use crate::ids::{AppId, SandboxId, TaskId};

/// Ended sandboxes whose output stays readable, at most.
const MAX_ENDED: usize = 256;
/// Bytes of output of ended sandboxes that stay readable, at most; the newest always stays.
const MAX_RETAINED: u64 = 2 << 30;

type Name = (AppId, String);

/// Finds sandboxes, and gives each name of an app to one living sandbox at a time.
#[derive(Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sandboxes: HashMap<SandboxId, Arc<LiveSandbox>>,
    tasks: HashMap<TaskId, Arc<LiveSandbox>>,
    names: HashMap<Name, SandboxId>,
    /// Oldest first, with the bytes of output that each keeps.
    ended: VecDeque<(SandboxId, u64)>,
    /// Those bytes together: thousands of sandboxes end in a minute, and none is asked twice.
    retained: u64,
}

impl Registry {
    /// Enters a sandbox that is being made.
    pub(crate) fn enter(&self, sandbox: &Arc<LiveSandbox>, name: Option<&str>) -> Result<()> {
        let mut inner = self.lock();
        if let Some(name) = name {
            inner.take_name(sandbox, name)?;
        }
        inner.sandboxes.insert(sandbox.id.clone(), Arc::clone(sandbox));
        inner.tasks.insert(sandbox.task.clone(), Arc::clone(sandbox));
        Ok(())
    }

    /// Gives a living sandbox a name. It may have that name already, but no other.
    pub(crate) fn name(&self, sandbox: &LiveSandbox, name: &str) -> Result<()> {
        let mut inner = self.lock();
        match inner.name_of(&sandbox.id) {
            Some(own) if own == name => Ok(()),
            Some(own) => {
                let id = &sandbox.id;
                Err(Error::Precondition(format!("sandbox `{id}` is named `{own}` already")))
            }
            None => inner.take_name(sandbox, name),
        }
    }

    pub(crate) fn find(&self, id: &SandboxId) -> Option<Arc<LiveSandbox>> {
        self.lock().sandboxes.get(id).cloned()
    }

    pub(crate) fn find_task(&self, id: &TaskId) -> Option<Arc<LiveSandbox>> {
        self.lock().tasks.get(id).cloned()
    }

    /// All that live, also those that are being made.
    pub(crate) fn live(&self) -> Vec<Arc<LiveSandbox>> {
        let inner = self.lock();
        let sandboxes = inner.sandboxes.values();
        sandboxes.filter(|sandbox| sandbox.ending().is_none()).cloned().collect()
    }

    /// Forgets a sandbox that was never made.
    pub(crate) fn leave(&self, sandbox: &LiveSandbox) {
        let mut inner = self.lock();
        inner.free_name(&sandbox.id);
        inner.remove(&sandbox.id);
    }

    /// Frees the name of a sandbox that ended, and forgets the oldest ended ones.
    pub(crate) fn retire(&self, sandbox: &LiveSandbox) {
        let mut inner = self.lock();
        inner.free_name(&sandbox.id);
        let bytes = sandbox.retained();
        inner.ended.push_back((sandbox.id.clone(), bytes));
        inner.retained += bytes;
        inner.make_room();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_name(&mut self, sandbox: &LiveSandbox, name: &str) -> Result<()> {
        let key = (sandbox.app.clone(), name.to_owned());
        if self.names.contains_key(&key) {
            return Err(Error::already_exists("running sandbox", name));
        }
        self.names.insert(key, sandbox.id.clone());
        Ok(())
    }

    fn name_of(&self, id: &SandboxId) -> Option<&str> {
        self.names.iter().find(|(_, holder)| *holder == id).map(|((_, name), _)| name.as_str())
    }

    fn free_name(&mut self, id: &SandboxId) {
        self.names.retain(|_, holder| holder != id);
    }

    fn remove(&mut self, id: &SandboxId) {
        if let Some(sandbox) = self.sandboxes.remove(id) {
            self.tasks.remove(&sandbox.task);
        }
    }

    fn make_room(&mut self) {
        while self.ended.len() > MAX_ENDED || (self.retained > MAX_RETAINED && self.ended.len() > 1)
        {
            let Some((oldest, bytes)) = self.ended.pop_front() else { return };
            self.retained -= bytes;
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(app: &AppId) -> Arc<LiveSandbox> {
        Arc::new(LiveSandbox::new(SandboxId::random_v2(), TaskId::random_v2(), app.clone()))
    }

    #[test]
    fn a_name_belongs_to_one_living_sandbox_of_an_app() {
        let registry = Registry::default();
        let (app, other_app) = (AppId::random(), AppId::random());
        let (first, second) = (sandbox(&app), sandbox(&app));
        registry.enter(&first, Some("box")).unwrap();
        let error = registry.enter(&second, Some("box")).unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }));
        assert!(registry.find(&second.id).is_none());
        registry.enter(&sandbox(&other_app), Some("box")).unwrap();
        registry.retire(&first);
        registry.enter(&second, Some("box")).unwrap();
        assert!(registry.find(&first.id).is_some(), "its output is still readable");
    }

    #[test]
    fn a_sandbox_keeps_its_name() {
        let registry = Registry::default();
        let app = AppId::random();
        let (named, unnamed) = (sandbox(&app), sandbox(&app));
        registry.enter(&named, Some("box")).unwrap();
        registry.enter(&unnamed, None).unwrap();
        registry.name(&named, "box").unwrap();
        assert!(matches!(registry.name(&named, "new"), Err(Error::Precondition(_))));
        assert!(matches!(registry.name(&unnamed, "box"), Err(Error::AlreadyExists { .. })));
        registry.name(&unnamed, "new").unwrap();
    }

    #[test]
    fn only_the_newest_ended_sandboxes_stay() {
        let registry = Registry::default();
        let app = AppId::random();
        let sandboxes: Vec<_> = (0..MAX_ENDED + 3).map(|_| sandbox(&app)).collect();
        for sandbox in &sandboxes {
            registry.enter(sandbox, None).unwrap();
            registry.retire(sandbox);
        }
        assert!(registry.find_task(&sandboxes[2].task).is_none());
        assert!(registry.find_task(&sandboxes[3].task).is_some());
    }
}
