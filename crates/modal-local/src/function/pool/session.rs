//! Sticky sessions of a server (`@modal.sessioned`): each belongs to one container until it ends.
//!
//! A session begins when a container has room, and waits for that; it ends when somebody says so, when
//! it has had no request for its time, or with its container, which is not retired before. What a
//! container counts is sessions, not requests. Source: Modal's guide to sticky sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::Plan;
use super::state::State;
use super::{InFlight, Pool};
use crate::function::task::Task;
use crate::ids::SessionId;

/// How long the beginning of a session waits for room. The SDK's docs say 25 minutes in five attempts.
const ROOM_WITHIN: Duration = Duration::from_secs(300);

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSession {
    /// No container had room in time.
    Full,
    /// Containers end before they are ready.
    Failing,
    /// The server has been stopped.
    Closed,
}

/// A session that has begun.
pub(super) struct Session {
    pub(super) task: Arc<Task>,
    /// Without a request for this long, it ends.
    idle_timeout: Duration,
    requests: usize,
    idle_since: Instant,
    /// It takes no further request and ends with the last one.
    ending: bool,
    /// By which a client that lost the answer asks again.
    key: Option<Vec<u8>>,
}

impl Session {
    fn takes_requests(&self) -> bool {
        !self.ending && self.task.stopping().is_none()
    }
}

impl Pool {
    /// Begins a session, as soon as a container has room. The same `key` gets the same session.
    ///
    /// # Errors
    ///
    /// [`NoSession`] where there is none within [`ROOM_WITHIN`], or it is known that there will be none.
    pub(crate) async fn start_session(
        &self,
        key: Option<&[u8]>,
        idle_timeout: Duration,
    ) -> Result<SessionId, NoSession> {
        let given_up = self.state().given_up;
        let until = Instant::now() + ROOM_WITHIN;
        let mut waiting: Option<Waiting<'_>> = None;
        loop {
            let rung = self.available.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            {
                let mut state = self.state();
                if state.closed {
                    return Err(NoSession::Closed);
                }
                if let Some(id) = state.admit(key, idle_timeout) {
                    if let Some(waiting) = waiting.take() {
                        waiting.admitted(&mut state);
                    }
                    return Ok(id);
                }
                if state.given_up != given_up {
                    return Err(NoSession::Failing);
                }
            }
            waiting.get_or_insert_with(|| Waiting::new(self));
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep_until(until) => return Err(NoSession::Full),
            }
        }
    }

    /// A request of a session; `None` if there is no such session, or it takes no more.
    pub(crate) fn enter_session(self: &Arc<Self>, id: &SessionId) -> Option<InFlight> {
        let mut state = self.state();
        let session = state.sessions.get_mut(id).filter(|session| session.takes_requests())?;
        session.requests += 1;
        session.task.begin_request();
        let task = Arc::clone(&session.task);
        Some(InFlight { pool: Arc::clone(self), task, session: Some(id.clone()) })
    }

    /// A request of a session is over.
    pub(super) fn leave_session(&self, id: &SessionId) {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(id) else { return };
        session.requests = session.requests.saturating_sub(1);
        session.idle_since = Instant::now();
        if session.ending && session.requests == 0 {
            state.end_session(id);
        }
    }

    /// Ends a session once its requests are over; false if there is none.
    pub(crate) fn terminate_session(&self, id: &SessionId) -> bool {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(id).filter(|session| !session.ending) else {
            return false;
        };
        session.ending = true;
        if session.requests == 0 {
            state.end_session(id);
        }
        drop(state);
        self.ring();
        true
    }
}

impl State {
    /// The session of this key, or a new one in the container with the fewest, if one has room.
    fn admit(&mut self, key: Option<&[u8]>, idle_timeout: Duration) -> Option<SessionId> {
        // One that is ending, or whose container is, takes no request: there the key begins another.
        let mut sessions = self.sessions.iter().filter(|(_, it)| it.takes_requests());
        let known = sessions.find(|(_, it)| key.is_some() && it.key.as_deref() == key);
        if let Some((id, _)) = known {
            return Some(id.clone());
        }
        let most = self.spec.scaling.max_inputs as usize;
        let open = self.current().filter(|task| task.is_ready() && task.session_count() < most);
        let task = Arc::clone(open.min_by_key(|task| task.session_count())?);
        task.begin_session();
        let id = SessionId::random();
        let session = Session {
            task,
            idle_timeout,
            requests: 0,
            idle_since: Instant::now(),
            ending: false,
            key: key.map(<[u8]>::to_vec),
        };
        self.sessions.insert(id.clone(), session);
        Some(id)
    }

    fn end_session(&mut self, id: &SessionId) {
        if let Some(session) = self.sessions.remove(id) {
            session.task.end_session();
        }
    }

    /// Ends sessions that have had no request for their time.
    pub(super) fn end_idle_sessions(&mut self, plan: &mut Plan, now: Instant) {
        let mut over = Vec::new();
        for (id, session) in self.sessions.iter().filter(|(_, session)| session.requests == 0) {
            match session.idle_since + session.idle_timeout {
                at if at <= now => over.push(id.clone()),
                at => plan.wake(at),
            }
        }
        for id in over {
            self.end_session(&id);
        }
    }
}

/// A session that waits for room, counted until this is dropped.
struct Waiting<'p> {
    pool: &'p Pool,
    counted: bool,
}

impl<'p> Waiting<'p> {
    fn new(pool: &'p Pool) -> Self {
        pool.state().waiting += 1;
        pool.changed.notify_one();
        Self { pool, counted: true }
    }

    /// It has room: from now on it is counted there, and at no time twice.
    fn admitted(mut self, state: &mut State) {
        state.waiting = state.waiting.saturating_sub(1);
        self.counted = false;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let mut state = self.pool.state();
        state.waiting = state.waiting.saturating_sub(1);
        drop(state);
        self.pool.changed.notify_one();
    }
}
