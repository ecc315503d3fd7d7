//! Which container of a server a request goes to.
//!
//! Requests do not wait: without a container that is ready they are refused, and one is begun; where
//! each has as many as it may take they are refused, too.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::Pool;
use crate::function::task::Task;
use crate::ids::SessionId;

/// Where a request goes.
pub(crate) enum Route {
    To(InFlight),
    /// Each container has as many requests as it may have at once.
    Full,
    /// There is no container, and now one is being made.
    Waking,
}

/// A request that a container works on, until this is dropped.
pub(crate) struct InFlight {
    pub(super) pool: Arc<Pool>,
    pub(crate) task: Arc<Task>,
    /// Whose request it is, of a sessioned server.
    pub(super) session: Option<SessionId>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.task.end_request();
        if let Some(session) = &self.session {
            self.pool.leave_session(session);
        }
        self.pool.changed.notify_one();
    }
}

impl Pool {
    /// Picks the container with the least to do or, for a `session`, the same one as long as it lives
    /// and has room.
    pub(crate) fn route(self: &Arc<Self>, session: Option<&[u8]>) -> Route {
        let mut state = self.state();
        let most = state.spec.scaling.max_inputs as usize;
        let open = |task: &&Arc<Task>| task.is_ready() && task.stopping().is_none();
        let newest = state.tasks.values().filter(open).map(|task| task.generation).max();
        let Some(newest) = newest else {
            state.called = !state.closed && state.current().next().is_none();
            drop(state);
            self.ring();
            return Route::Waking;
        };
        let tasks = state.tasks.values().filter(open).filter(|task| task.generation == newest);
        let with_room = tasks.filter(|task| task.running_count() < most);
        let chosen = match session {
            Some(session) => with_room.max_by_key(|task| affinity(session, task)),
            None => with_room.min_by_key(|task| task.running_count()),
        };
        let Some(task) = chosen.cloned() else { return Route::Full };
        task.begin_request();
        drop(state);
        self.changed.notify_one();
        Route::To(InFlight { pool: Arc::clone(self), task, session: None })
    }

    /// A server's container answers from now on.
    pub(crate) fn open(&self, task: &Task) {
        task.set_ready();
        self.state().called = false;
        self.started();
    }
}

/// Rendezvous hashing: a container that comes or goes moves only the sessions that are its own.
fn affinity(session: &[u8], task: &Task) -> u64 {
    let mut hasher = DefaultHasher::new();
    session.hash(&mut hasher);
    task.id.as_str().hash(&mut hasher);
    hasher.finish()
}
