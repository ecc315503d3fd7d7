//! One container of a function, as the pool sees it: what it works on, and whether it is to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use modal_proto::client::GenericResult;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::calls::Input;
use super::definition::FunctionSpec;
use super::place::Place;
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{InputId, TaskId};

/// How a container is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// As soon as it has finished what it works on: it gets no further inputs.
    Drain,
    /// Now, in order: it is interrupted, and may clear up for a while.
    Interrupt,
    /// At once.
    Kill,
}

/// A container of a function.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) spec: Arc<FunctionSpec>,
    /// Counts the deployments that the pool has seen.
    pub(crate) generation: u64,
    pub(crate) enqueued_at: f64,
    /// When it was begun, for its start-up time-out.
    pub(crate) begun: Instant,
    /// Its inside, once its program runs.
    place: OnceLock<Place>,
    state: Mutex<State>,
    stop: watch::Sender<Option<Stop>>,
    /// Rings when there is something for its heartbeat.
    pub(crate) bell: Notify,
}

struct State {
    /// When it asked for inputs for the first time.
    ready_at: Option<f64>,
    idle_since: Instant,
    running: HashMap<InputId, Running>,
    /// Requests that a server answers now.
    requests: usize,
    /// Sticky sessions that a server holds.
    sessions: usize,
    cancelled: Vec<InputId>,
    result: Option<GenericResult>,
}

/// An input that a container works on.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) input: Arc<Input>,
    pub(crate) since: Instant,
    pub(crate) ends: Interruption,
}

/// Why an input is being ended, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    None,
    Cancelled,
    TimedOut,
}

impl Task {
    pub(crate) fn new(spec: Arc<FunctionSpec>, generation: u64) -> Self {
        let now = Instant::now();
        Self {
            id: TaskId::random(),
            spec,
            generation,
            enqueued_at: clock::unique_now(),
            begun: now,
            place: OnceLock::new(),
            state: Mutex::new(State {
                ready_at: None,
                idle_since: now,
                running: HashMap::new(),
                requests: 0,
                sessions: 0,
                cancelled: Vec::new(),
                result: None,
            }),
            stop: watch::Sender::new(None),
            bell: Notify::new(),
        }
    }

    /// Its inside.
    ///
    /// # Errors
    ///
    /// `Precondition` before its program was started.
    pub(crate) fn place(&self) -> Result<&Place> {
        self.place.get().ok_or_else(|| {
            Error::Precondition(format!("container `{}` has not started yet", self.id))
        })
    }

    /// When its program was started, if it was.
    pub(crate) fn program_began(&self) -> Option<Instant> {
        self.place.get().map(|place| place.began)
    }

    /// Called once, when its program was started.
    pub(super) fn set_place(&self, place: Place) {
        // A second call would be a mistake of ours; the first stays.
        let _ = self.place.set(place);
    }

    /// Asks for the end; a harder way wins over a softer one.
    pub(crate) fn request_stop(&self, stop: Stop) {
        self.stop.send_if_modified(|asked| {
            let harder = asked.is_none_or(|asked| asked < stop);
            if harder {
                *asked = Some(stop);
            }
            harder
        });
        self.bell.notify_waiters();
    }

    pub(crate) fn stopping(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    /// Returns when it is to end in this way, or harder.
    pub(crate) async fn asked_to(&self, stop: Stop) -> Stop {
        let mut asked = self.stop.subscribe();
        let asked = asked.wait_for(|asked| asked.is_some_and(|asked| asked >= stop)).await;
        // The sender is `self`'s, so this does not fail.
        asked.ok().and_then(|asked| *asked).unwrap_or(stop)
    }

    /// It asks for inputs. Answers whether this is the first time.
    pub(crate) fn set_ready(&self) -> bool {
        let mut state = self.state();
        let first = state.ready_at.is_none();
        state.ready_at.get_or_insert_with(clock::now);
        if first {
            state.idle_since = Instant::now();
        }
        first
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state().ready_at.is_some()
    }

    pub(crate) fn ready_at(&self) -> Option<f64> {
        self.state().ready_at
    }

    pub(crate) fn take(&self, input: Arc<Input>) {
        let running = Running { since: Instant::now(), ends: Interruption::None, input };
        self.state().running.insert(running.input.id.clone(), running);
    }

    /// The input it has finished, if it worked on it.
    pub(crate) fn release(&self, id: &InputId) -> Option<Running> {
        let mut state = self.state();
        let released = state.running.remove(id);
        if state.running.is_empty() {
            state.idle_since = Instant::now();
        }
        released
    }

    /// A request goes to this server.
    pub(crate) fn begin_request(&self) {
        self.state().requests += 1;
    }

    /// One of its requests has been answered, or broke off.
    pub(crate) fn end_request(&self) {
        let mut state = self.state();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.idle_since = Instant::now();
        }
        drop(state);
        self.bell.notify_waiters();
    }

    /// A sticky session is this server's from now on.
    pub(crate) fn begin_session(&self) {
        self.state().sessions += 1;
    }

    /// One of its sessions is over.
    pub(crate) fn end_session(&self) {
        let mut state = self.state();
        state.sessions = state.sessions.saturating_sub(1);
        if state.sessions == 0 && state.requests == 0 {
            state.idle_since = Instant::now();
        }
    }

    /// How many sticky sessions it holds.
    pub(crate) fn session_count(&self) -> usize {
        self.state().sessions
    }

    /// How much it has of what containers are counted by: sessions or else inputs and requests.
    pub(crate) fn load(&self) -> usize {
        if self.spec.is_sessioned() { self.session_count() } else { self.running_count() }
    }

    /// The inputs that it works on.
    pub(crate) fn running(&self) -> Vec<Running> {
        self.state().running.values().cloned().collect()
    }

    /// How much it works on, requests to servers included.
    pub(crate) fn running_count(&self) -> usize {
        let state = self.state();
        state.running.len() + state.requests
    }

    /// The one input that it works on, if it is one.
    pub(crate) fn only_input(&self) -> Option<Arc<Input>> {
        let state = self.state();
        match state.running.len() {
            1 => state.running.values().next().map(|running| Arc::clone(&running.input)),
            _ => None,
        }
    }

    /// For how long it has had nothing to do.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        let busy = !state.running.is_empty() || state.requests > 0 || state.sessions > 0;
        let idle = !busy && state.ready_at.is_some();
        idle.then_some(state.idle_since)
    }

    /// Has the container give up an input; false if it does not work on it, or is told already.
    pub(crate) fn interrupt(&self, id: &InputId, why: Interruption) -> bool {
        let mut state = self.state();
        let Some(running) = state.running.get_mut(id) else { return false };
        if running.ends != Interruption::None {
            return false;
        }
        running.ends = why;
        state.cancelled.push(id.clone());
        drop(state);
        self.bell.notify_waiters();
        true
    }

    /// Inputs to give up of which the container has not heard.
    pub(crate) fn take_cancelled(&self) -> Vec<InputId> {
        std::mem::take(&mut self.state().cancelled)
    }

    /// What the container itself says about its end.
    pub(crate) fn set_result(&self, result: GenericResult) {
        self.state().result.get_or_insert(result);
    }

    pub(crate) fn result(&self) -> Option<GenericResult> {
        self.state().result.clone()
    }

    /// When the first of its inputs has taken too long.
    pub(crate) fn next_timeout(&self, limit: Duration) -> Option<Instant> {
        let state = self.state();
        let waiting = state.running.values().filter(|it| it.ends == Interruption::None);
        waiting.map(|running| running.since + limit).min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
