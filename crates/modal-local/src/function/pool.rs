//! One function at work: the queue of its inputs and the containers that take from it.
//!
//! The state here changes under one lock and without waiting; [`super::keeper`] acts on what
//! [`Pool::plan`] finds to do. After a deployment, containers of the definition before go on until
//! one of the new definition is ready, so that no input waits for the change.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::calls::Input;
use super::definition::FunctionSpec;
use super::scaling::Load;
use super::task::{Interruption, Running, Stop, Task};
use crate::ids::{AppId, CallId, FunctionId, InputId, TaskId};

/// How long a container waits for an input in one call; then it asks again.
const INPUT_POLL: Duration = Duration::from_secs(50);
/// Failed starts in a row after which the inputs that wait fail, too.
const MAX_FAILURES: u32 = 3;
/// The first pause after a failed start; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Containers of one function that are being made at once: each is busy importing for a second.
const PARALLEL_STARTS: usize = 4;

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

struct State {
    spec: Arc<FunctionSpec>,
    generation: u64,
    queue: VecDeque<Arc<Input>>,
    tasks: HashMap<TaskId, Arc<Task>>,
    /// Starts that failed since the last one that did not.
    failures: u32,
    not_before: Option<Instant>,
    closed: bool,
}

/// What a container that asked for inputs is told.
pub(crate) enum Next {
    Inputs(Vec<Arc<Input>>),
    /// Nothing came; it asks again.
    Nothing,
    /// It is to end.
    End,
}

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
    fn wake(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Pool {
    pub(crate) fn new(spec: Arc<FunctionSpec>) -> Self {
        Self {
            function: spec.id.clone(),
            app: spec.app.clone(),
            state: Mutex::new(State {
                spec,
                generation: 0,
                queue: VecDeque::new(),
                tasks: HashMap::new(),
                failures: 0,
                not_before: None,
                closed: false,
            }),
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

    /// Waits for inputs for a container: at most `most`, the further ones only as long as `linger`.
    pub(crate) async fn next(&self, task: &Task, most: usize, linger: Duration) -> Next {
        if task.set_ready() {
            self.changed.notify_one();
        }
        let until = Instant::now() + INPUT_POLL;
        let mut taken = Vec::new();
        loop {
            let rung = self.available.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if task.stopping().is_some() {
                return Next::End;
            }
            self.take(task, most - taken.len(), &mut taken);
            if !taken.is_empty() {
                break;
            }
            if Instant::now() >= until {
                return Next::Nothing;
            }
            tokio::select! {
                () = rung => {}
                () = task.bell.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
        let until = Instant::now() + linger;
        while taken.len() < most && Instant::now() < until {
            let rung = self.available.notified();
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep_until(until) => {}
            }
            self.take(task, most - taken.len(), &mut taken);
        }
        self.changed.notify_one();
        Next::Inputs(taken)
    }

    fn take(&self, task: &Task, most: usize, taken: &mut Vec<Arc<Input>>) {
        let mut state = self.state();
        for _ in 0..most {
            // A batch is of one method.
            let method = |input: &Arc<Input>| input.input.method_name.clone();
            if let (Some(first), Some(next)) = (taken.first(), state.queue.front())
                && method(first) != method(next)
            {
                return;
            }
            let Some(input) = state.queue.pop_front() else { return };
            task.take(Arc::clone(&input));
            taken.push(input);
        }
        if task.spec.function.single_use_containers && !taken.is_empty() {
            task.request_stop(Stop::Drain);
        }
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
        let mut failed = Vec::new();
        let is_current = task.generation == state.generation;
        if !task.is_ready() && task.stopping().is_none() && is_current {
            state.failures += 1;
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(state.failures.min(8) - 1);
            state.not_before = Some(Instant::now() + pause);
            if hopeless || state.failures >= MAX_FAILURES {
                failed = state.queue.drain(..).collect();
            }
        }
        drop(state);
        self.ring();
        (task.running(), failed)
    }

    /// What is to be done now.
    pub(crate) fn plan(&self) -> Plan {
        self.plan_at(Instant::now())
    }

    fn plan_at(&self, now: Instant) -> Plan {
        let mut state = self.state();
        let mut plan = Plan::default();
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

    fn ring(&self) {
        self.available.notify_waiters();
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn load(&self) -> Load {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let current = self.current().count();
        Load {
            queued: count(self.queue.len()),
            // What is on its way out finishes what it has, and needs no other for it.
            running: count(self.current().map(|task| task.running_count()).sum()),
            containers: count(current),
        }
    }

    /// Containers of the definition in use that stay.
    fn current(&self) -> impl Iterator<Item = &Arc<Task>> {
        let stays =
            |task: &&Arc<Task>| task.generation == self.generation && task.stopping().is_none();
        self.tasks.values().filter(stays)
    }

    /// Containers of an earlier definition end once one of this definition can take their place.
    fn replace_old(&mut self, plan: &mut Plan) {
        let old: Vec<Arc<Task>> = self
            .tasks
            .values()
            .filter(|task| task.generation < self.generation && task.stopping().is_none())
            .cloned()
            .collect();
        if old.is_empty() {
            return;
        }
        let in_place = self.current().any(|task| task.is_ready());
        let idle = self.queue.is_empty() && old.iter().all(|task| task.running_count() == 0);
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
            return;
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return plan.wake(at);
        }
        let mut starting = self.current().filter(|task| !task.is_ready()).count();
        while missing > 0 && starting < PARALLEL_STARTS {
            self.begin(plan);
            (missing, starting) = (missing - 1, starting + 1);
        }
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
    if !task.is_ready() && task.stopping().is_none() {
        match task.begun + task.spec.startup_timeout() {
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

#[cfg(test)]
mod tests {
    use modal_proto::client::{Function, FunctionInput};

    use super::super::definition;
    use super::super::records::FunctionRecord;
    use super::*;
    use crate::ids::DefinitionId;

    fn spec(function: Function) -> Arc<FunctionSpec> {
        let data = definition::from_request(Some(function), None).unwrap();
        let record = FunctionRecord {
            id: FunctionId::random(),
            app: AppId::random(),
            name: "f".into(),
            base: None,
            serialized_params: Vec::new(),
            options: Default::default(),
            announced: Default::default(),
            definition: None,
            autoscaler: Default::default(),
        };
        Arc::new(FunctionSpec::new(&record, DefinitionId::random(), &data).unwrap())
    }

    fn input() -> Arc<Input> {
        Arc::new(Input {
            id: InputId::random(),
            call: CallId::random(),
            function: FunctionId::random(),
            idx: 0,
            invocation: 4,
            input: FunctionInput::default(),
            attempt: 0,
            retries_here: true,
            lost: 0,
            is_web: false,
        })
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    async fn take(pool: &Pool, task: &Task) -> Arc<Input> {
        match pool.next(task, 1, Duration::ZERO).await {
            Next::Inputs(inputs) => Arc::clone(&inputs[0]),
            _ => panic!("an input was expected"),
        }
    }

    #[tokio::test]
    async fn a_function_grows_with_its_inputs_and_goes_back_to_zero() {
        let pool = Pool::new(spec(Function { concurrency_limit: 2, ..Default::default() }));
        assert!(pool.plan().start.is_empty());
        for _ in 0..5 {
            assert!(pool.enqueue(input()));
        }
        let started = pool.plan().start;
        assert_eq!(started.len(), 2, "five inputs, two containers");
        let one = take(&pool, &started[0]).await;
        assert!(started[0].release(&one.id).is_some());
        for task in started.iter().cycle().take(4) {
            let input = take(&pool, task).await;
            task.release(&input.id);
        }
        assert!(pool.plan().wake_at.is_some(), "it looks again when the window is over");
        pool.plan_at(later(61));
        assert!(started.iter().all(|task| task.stopping() == Some(Stop::Drain)));
        assert!(matches!(pool.next(&started[0], 1, Duration::ZERO).await, Next::End));
    }

    #[tokio::test]
    async fn old_containers_serve_until_a_new_one_is_ready() {
        let first = spec(Function { warm_pool_size: 1, ..Default::default() });
        let pool = Pool::new(first);
        let old = pool.plan().start.remove(0);
        old.set_ready();
        pool.redefine(spec(Function { warm_pool_size: 1, ..Default::default() }), false);
        let new = pool.plan().start.remove(0);
        assert_eq!(old.stopping(), None);
        pool.enqueue(input());
        let taken = take(&pool, &old).await;
        new.set_ready();
        pool.plan();
        assert_eq!(old.stopping(), Some(Stop::Drain), "it finishes what it has");
        assert_eq!(old.running()[0].input.id, taken.id);
    }

    #[tokio::test]
    async fn containers_that_never_come_up_fail_their_inputs() {
        let pool = Pool::new(spec(Function::default()));
        pool.enqueue(input());
        let mut failed = Vec::new();
        for _ in 0..MAX_FAILURES {
            let task = pool.plan_at(later(5)).start.remove(0);
            failed = pool.ended(&task, false).1;
        }
        assert_eq!(failed.len(), 1);
        assert!(pool.plan().start.is_empty(), "nothing waits any more");
    }

    #[tokio::test]
    async fn inputs_and_starts_have_time_outs() {
        let function = Function { timeout_secs: 10, startup_timeout_secs: 5, ..Default::default() };
        let pool = Pool::new(spec(function));
        pool.enqueue(input());
        let task = pool.plan().start.remove(0);
        assert_eq!(pool.plan_at(later(6)).late.len(), 1);
        let taken = take(&pool, &task).await;
        let timed_out = pool.plan_at(later(11)).timed_out;
        assert_eq!(timed_out[0].1, taken.id);
        assert!(task.interrupt(&taken.id, Interruption::TimedOut));
        assert!(pool.plan_at(later(11)).timed_out.is_empty(), "told once");
    }
}
