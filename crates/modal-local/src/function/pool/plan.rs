//! What is to be done about the containers of a pool now.

use std::sync::Arc;

use tokio::time::Instant;

use super::state::State;
use super::{MAX_FAILURES, Pool};
use crate::function::task::{Interruption, Stop, Task};
use crate::ids::InputId;

/// Containers of one function that are being made at once: each is busy importing for a second.
const PARALLEL_STARTS: usize = 4;

/// What the keeper has to do now.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) start: Vec<Arc<Task>>,
    /// Inputs that have taken too long, and who works on them.
    pub(crate) timed_out: Vec<(Arc<Task>, InputId)>,
    /// Containers that did not come up in time.
    pub(crate) late: Vec<Arc<Task>>,
    /// When to look again though nothing rings.
    pub(crate) wake_at: Option<Instant>,
    /// Nothing is left and nothing will come.
    pub(crate) over: bool,
}

impl Plan {
    pub(super) fn wake(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Pool {
    /// What is to be done now.
    pub(crate) fn plan(&self) -> Plan {
        self.plan_at(Instant::now())
    }

    pub(super) fn plan_at(&self, now: Instant) -> Plan {
        let mut state = self.state();
        let mut plan = Plan::default();
        state.end_idle_sessions(&mut plan, now);
        state.replace_old(&mut plan);
        state.start(&mut plan, now);
        state.retire(&mut plan, now);
        for task in state.tasks.values() {
            watch(task, &mut plan, now);
        }
        plan.over = state.closed && state.tasks.is_empty();
        drop(state);
        // Whoever waits must see that it is to end.
        self.available.notify_waiters();
        plan
    }
}

impl State {
    /// Containers of an earlier definition end once one of this definition can take their place.
    fn replace_old(&mut self, plan: &mut Plan) {
        let old: Vec<Arc<Task>> = self
            .tasks
            .values()
            .filter(|task| task.generation < self.generation && task.stopping().is_none())
            // Whoever has a session stays with its container; new ones go elsewhere.
            .filter(|task| task.session_count() == 0)
            .cloned()
            .collect();
        if old.is_empty() {
            return;
        }
        let in_place = self.current().any(|task| task.is_ready());
        // Nothing waits for a server: a request that finds no container is refused.
        let idle = !self.spec.is_server()
            && self.queue.is_empty()
            && old.iter().all(|task| task.running_count() == 0);
        if in_place || self.failures >= MAX_FAILURES || (idle && self.spec.scaling.min == 0) {
            for task in old {
                task.request_stop(Stop::Drain);
            }
        } else if self.current().next().is_none() && !self.closed {
            self.begin(plan);
        }
    }

    fn start(&mut self, plan: &mut Plan, now: Instant) {
        if self.closed {
            return;
        }
        let load = self.load();
        let mut missing = self.spec.scaling.wanted(load).saturating_sub(load.containers);
        if missing == 0 {
            self.short_since = None;
            return;
        }
        if load.containers > 0 && load.containers >= self.spec.scaling.min {
            let at = *self.short_since.get_or_insert(now) + self.spec.scaling.scaleup;
            if at > now {
                return plan.wake(at);
            }
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return plan.wake(at);
        }
        let mut starting = self.current().filter(|task| !task.is_ready()).count();
        while missing > 0 && starting < PARALLEL_STARTS {
            self.begin(plan);
            (missing, starting) = (missing - 1, starting + 1);
        }
        self.called = false;
    }

    fn begin(&mut self, plan: &mut Plan) {
        let task = Arc::new(Task::new(Arc::clone(&self.spec), self.generation));
        self.tasks.insert(task.id.clone(), Arc::clone(&task));
        plan.start.push(task);
    }

    /// Lets containers go that have had nothing to do for long enough and are not wanted.
    fn retire(&mut self, plan: &mut Plan, now: Instant) {
        let window = self.spec.scaling.window;
        let mut surplus = self.spec.scaling.surplus(self.load());
        let mut idle: Vec<(Instant, Arc<Task>)> = self
            .current()
            .filter_map(|task| Some((task.idle_since()?, Arc::clone(task))))
            .collect();
        idle.sort_by_key(|(since, _)| *since);
        for (since, task) in idle {
            if surplus == 0 {
                return;
            }
            if since + window > now {
                return plan.wake(since + window);
            }
            task.request_stop(Stop::Drain);
            surplus -= 1;
        }
    }
}

/// Looks after the time-outs of one container.
fn watch(task: &Arc<Task>, plan: &mut Plan, now: Instant) {
    // A server's time counts from its program's start: it is short, and the first container of all
    // may have to wait for Modal's package.
    let began = if task.spec.is_server() { task.program_began() } else { Some(task.begun) };
    if let Some(began) = began.filter(|_| !task.is_ready() && task.stopping().is_none()) {
        match began + task.spec.startup_timeout() {
            at if at <= now => plan.late.push(Arc::clone(task)),
            at => plan.wake(at),
        }
    }
    let limit = task.spec.timeout();
    for running in task.running() {
        if running.ends == Interruption::None && running.since + limit <= now {
            plan.timed_out.push((Arc::clone(task), running.input.id.clone()));
        }
    }
    if let Some(at) = task.next_timeout(limit).filter(|at| *at > now) {
        plan.wake(at);
    }
}
