use modal_proto::client::{Function, FunctionInput};

use super::*;
use crate::function::definition;
use crate::function::records::FunctionRecord;
use crate::function::task::Interruption;
use crate::ids::{DefinitionId, InputId};

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
