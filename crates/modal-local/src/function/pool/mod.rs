//! One function at work: the queue of its inputs and the containers that take from it.
//!
//! The state here changes under one lock and without waiting; [`super::keeper`] acts on what
//! [`Pool::plan`] finds to do. After a deployment, containers of the definition before go on until
//! one of the new definition is ready, so that no input waits for the change.

mod next;
mod plan;
mod route;
mod session;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::next::Next;
pub(crate) use self::plan::Plan;
pub(crate) use self::route::{InFlight, Route};
pub(crate) use self::session::NoSession;
use self::state::State;
use super::calls::Input;
use super::definition::FunctionSpec;
use super::scaling::Load;
use super::task::{Running, Stop, Task};
use crate::ids::{AppId, CallId, FunctionId, TaskId};

/// Failed starts in a row after which the inputs that wait fail, too.
const MAX_FAILURES: u32 = 3;
/// The first pause after a failed start; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A function with its queue and containers.
pub(crate) struct Pool {
    pub(crate) function: FunctionId,
    pub(crate) app: AppId,
    state: Mutex<State>,
    /// Rings when the keeper has to look again.
    pub(crate) changed: Notify,
    /// Rings when there may be an input for a container that waits.
    available: Notify,
}

impl Pool {
    pub(crate) fn new(spec: Arc<FunctionSpec>) -> Self {
        Self {
            function: spec.id.clone(),
            app: spec.app.clone(),
            state: Mutex::new(State::new(spec)),
            changed: Notify::new(),
            available: Notify::new(),
        }
    }

    pub(crate) fn spec(&self) -> Arc<FunctionSpec> {
        Arc::clone(&self.state().spec)
    }

    /// From now on containers are made as `spec` says. With another definition, or if they are to be
    /// `replaced`, those there are give way.
    pub(crate) fn redefine(&self, spec: Arc<FunctionSpec>, replaced: bool) {
        let mut state = self.state();
        if replaced || state.spec.definition != spec.definition {
            state.generation += 1;
            state.failures = 0;
            state.not_before = None;
        }
        state.spec = spec;
        drop(state);
        self.ring();
    }

    /// Queues an input; false if the pool is closed.
    pub(crate) fn enqueue(&self, input: Arc<Input>) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        state.queue.push_back(input);
        drop(state);
        self.ring();
        true
    }

    /// Queues an input before all others: it was begun before.
    pub(crate) fn requeue(&self, input: Arc<Input>) {
        self.state().queue.push_front(input);
        self.ring();
    }

    /// Takes nothing more and lets its containers end; answers the inputs that waited.
    pub(crate) fn close(&self, stop: Stop) -> Vec<Arc<Input>> {
        let mut state = self.state();
        state.closed = true;
        let waiting = state.queue.drain(..).collect();
        for task in state.tasks.values() {
            task.request_stop(match (task.is_ready(), task.running_count()) {
                // It has seen nothing of the app's yet that it could clear up.
                (false, _) => Stop::Kill,
                (true, 0) => Stop::Drain,
                (true, _) => stop,
            });
        }
        drop(state);
        self.ring();
        waiting
    }

    /// Removes the inputs of a call that wait, and answers them.
    pub(crate) fn withdraw(&self, call: &CallId) -> Vec<Arc<Input>> {
        let mut state = self.state();
        let is_its = |input: &Arc<Input>| input.call == *call;
        let out = state.queue.iter().filter(|input| is_its(input)).cloned().collect();
        state.queue.retain(|input| !is_its(input));
        drop(state);
        self.ring();
        out
    }

    pub(crate) fn task(&self, id: &TaskId) -> Option<Arc<Task>> {
        self.state().tasks.get(id).cloned()
    }

    pub(crate) fn tasks(&self) -> Vec<Arc<Task>> {
        self.state().tasks.values().cloned().collect()
    }

    pub(crate) fn load(&self) -> Load {
        self.state().load()
    }

    /// Whether something runs or waits.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.state();
        !state.tasks.is_empty() || !state.queue.is_empty()
    }

    /// How many inputs a container should take at once now.
    pub(crate) fn concurrency(&self) -> u32 {
        let state = self.state();
        let scaling = &state.spec.scaling;
        let full = state.load().containers >= scaling.max && !state.queue.is_empty();
        if full { scaling.max_inputs } else { scaling.target_inputs }
    }

    /// A container came up.
    pub(crate) fn started(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.not_before = None;
        drop(state);
        self.ring();
    }

    /// A container ended; answers what it had not finished, and the inputs that fail with it because
    /// containers end again and again before they ask for one.
    pub(crate) fn ended(&self, task: &Task, hopeless: bool) -> (Vec<Running>, Vec<Arc<Input>>) {
        let mut state = self.state();
        state.tasks.remove(&task.id);
        state.sessions.retain(|_, session| session.task.id != task.id);
        let mut failed = Vec::new();
        let is_current = task.generation == state.generation;
        if !task.is_ready() && task.stopping().is_none() && is_current {
            state.failures += 1;
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(state.failures.min(8) - 1);
            state.not_before = Some(Instant::now() + pause);
            if hopeless || state.failures >= MAX_FAILURES {
                failed = state.queue.drain(..).collect();
                state.given_up += 1;
            }
        }
        drop(state);
        self.ring();
        (task.running(), failed)
    }

    fn ring(&self) {
        self.available.notify_waiters();
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
