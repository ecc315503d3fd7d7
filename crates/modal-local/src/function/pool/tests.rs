use modal_proto::client::{Function, FunctionInput, HttpConfig};

use super::*;
use crate::function::definition;
use crate::function::records::FunctionRecord;
use crate::function::task::Interruption;
use crate::ids::{DefinitionId, InputId, SessionId};

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

fn server(max_concurrent_inputs: u32) -> Arc<Pool> {
    let http_config = Some(HttpConfig { port: 8000, exit_grace_period: 1, ..Default::default() });
    let function =
        Function { is_server: true, http_config, max_concurrent_inputs, ..Default::default() };
    Arc::new(Pool::new(spec(function)))
}

fn routed(pool: &Arc<Pool>, session: Option<&[u8]>) -> InFlight {
    match pool.route(session) {
        Route::To(request) => request,
        Route::Full => panic!("it is full"),
        Route::Waking => panic!("nothing is there"),
    }
}

#[tokio::test]
async fn a_servers_requests_wake_it_and_do_not_wait() {
    let pool = server(1);
    assert!(pool.plan().start.is_empty());
    assert!(matches!(pool.route(None), Route::Waking));
    let task = pool.plan().start.remove(0);
    assert!(matches!(pool.route(None), Route::Waking), "it is not ready yet");
    assert!(pool.plan().start.is_empty(), "one comes already");
    pool.open(&task);
    let request = routed(&pool, None);
    assert_eq!(request.task.id, task.id);
    assert!(matches!(pool.route(None), Route::Full));
    drop(request);
    drop(routed(&pool, None));
    pool.plan_at(later(61));
    assert_eq!(task.stopping(), Some(Stop::Drain), "it goes when nothing has come for a while");
    assert!(matches!(pool.route(None), Route::Waking), "what is to end gets nothing");
}

#[tokio::test]
async fn a_session_stays_with_its_container_and_others_go_where_there_is_least_to_do() {
    let pool = server(0);
    pool.redefine(
        spec(Function {
            is_server: true,
            http_config: Some(HttpConfig { port: 8000, ..Default::default() }),
            warm_pool_size: 2,
            ..Default::default()
        }),
        true,
    );
    let tasks = pool.plan().start;
    assert_eq!(tasks.len(), 2);
    tasks.iter().for_each(|task| pool.open(task));
    let (one, other) = (routed(&pool, None), routed(&pool, None));
    assert_ne!(one.task.id, other.task.id);
    let kept = routed(&pool, Some(b"a")).task.id.clone();
    assert!((0..9).all(|_| routed(&pool, Some(b"a")).task.id == kept));
    let spread = (0..50_u8).filter(|it| routed(&pool, Some(&[*it])).task.id == kept).count();
    assert!((5..45).contains(&spread), "{spread} of 50 sessions");
}

#[tokio::test]
async fn an_old_server_answers_until_a_new_one_does() {
    let pool = server(0);
    assert!(matches!(pool.route(None), Route::Waking));
    let old = pool.plan().start.remove(0);
    pool.open(&old);
    pool.redefine(pool.spec(), true);
    let new = pool.plan().start.remove(0);
    assert_eq!(routed(&pool, None).task.id, old.id);
    pool.open(&new);
    assert_eq!(routed(&pool, None).task.id, new.id);
    pool.plan();
    assert_eq!(old.stopping(), Some(Stop::Drain));
}

fn sessioned(most: u32) -> Arc<Pool> {
    let http_config = Some(HttpConfig { port: 8000, ..Default::default() });
    Arc::new(Pool::new(spec(Function {
        is_server: true,
        is_sessioned: true,
        http_config,
        max_concurrent_inputs: most,
        ..Default::default()
    })))
}

/// Begins a session that has to wait for its container, which is begun and opened meanwhile.
async fn waited_session(pool: &Arc<Pool>) -> (SessionId, Arc<Task>) {
    let mut starting = std::pin::pin!(pool.start_session(None, IDLE));
    assert!(futures::poll!(starting.as_mut()).is_pending(), "there is no room");
    let task = pool.plan().start.remove(0);
    assert!(pool.plan().start.is_empty(), "one is enough");
    pool.open(&task);
    (starting.await.unwrap(), task)
}

const IDLE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_session_keeps_its_container_until_it_ends() {
    let pool = sessioned(1);
    let (session, task) = waited_session(&pool).await;
    let (other, second) = waited_session(&pool).await;
    assert_ne!(task.id, second.id, "one session a container");
    assert!(pool.plan().start.is_empty(), "no session is counted twice");
    for _ in 0..3 {
        assert_eq!(pool.enter_session(&session).unwrap().task.id, task.id);
        assert_eq!(pool.enter_session(&other).unwrap().task.id, second.id);
    }
    assert!(pool.terminate_session(&other));
    assert!(!pool.terminate_session(&other), "once");
    assert!(pool.enter_session(&other).is_none());
    pool.plan_at(later(120));
    assert_eq!((task.stopping(), second.stopping()), (None, Some(Stop::Drain)));
    pool.plan_at(later(601));
    assert!(pool.enter_session(&session).is_none(), "it had no request for its time");
}

#[tokio::test]
async fn a_session_that_ends_finishes_its_requests() {
    let pool = sessioned(0);
    let (session, task) = waited_session(&pool).await;
    let request = pool.enter_session(&session).unwrap();
    pool.plan_at(later(1_000));
    assert!(pool.enter_session(&session).is_some(), "it is not idle while it answers");
    assert!(pool.terminate_session(&session));
    assert!(pool.enter_session(&session).is_none());
    assert_eq!((task.session_count(), task.running_count()), (1, 1));
    drop(request);
    assert_eq!((task.session_count(), task.running_count()), (0, 0));
}

#[tokio::test]
async fn a_key_begins_one_session_and_a_deployment_leaves_those_there_are_in_place() {
    let pool = sessioned(0);
    let (session, old) = waited_session(&pool).await;
    let once = pool.start_session(Some(b"k"), IDLE).await.unwrap();
    assert_ne!(once, session);
    assert_eq!(pool.start_session(Some(b"k"), IDLE).await, Ok(once.clone()));
    let request = pool.enter_session(&once).unwrap();
    assert!(pool.terminate_session(&once));
    let next = pool.start_session(Some(b"k"), IDLE).await.unwrap();
    assert_ne!(next, once, "that one takes no request any more");
    assert!(pool.enter_session(&next).is_some());
    drop(request);
    pool.redefine(pool.spec(), true);
    let (_, new) = waited_session(&pool).await;
    assert_ne!(new.id, old.id, "new sessions go to the new deployment");
    pool.plan();
    assert_eq!(old.stopping(), None);
    assert_eq!(pool.enter_session(&session).unwrap().task.id, old.id);
}

#[tokio::test]
async fn a_session_does_not_wait_for_containers_that_never_come_up() {
    let pool = sessioned(0);
    let mut starting = std::pin::pin!(pool.start_session(None, IDLE));
    assert!(futures::poll!(starting.as_mut()).is_pending());
    for _ in 0..MAX_FAILURES {
        let task = pool.plan_at(later(5)).start.remove(0);
        pool.ended(&task, false);
    }
    assert_eq!(starting.await, Err(NoSession::Failing));
    assert!(pool.plan_at(later(60)).start.is_empty(), "nobody waits any more");
    pool.close(Stop::Drain);
    assert_eq!(pool.start_session(None, IDLE).await, Err(NoSession::Closed));
}
