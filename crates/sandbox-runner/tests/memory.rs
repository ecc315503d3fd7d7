//! Runs against sandboxes in memory.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use eval_types::{Allowance, ModelSource, Outcome, Variant, Verdict};
use sandbox_runner::{
    BoxError, Check, Defaults, Event, Events, Journal, Network, Plan, Report, Runner, Secret, Stop,
    Subscriber, Task, Traces,
    backend::memory::{MemoryBackend, Program},
    conformance,
    relay::{Direct, Upstream},
};

const KEY: &str = "sk-real-key-of-the-test";

/// Remembers what happened, and ends the run when an agent says so.
#[derive(Default)]
struct Log {
    events: Mutex<Vec<String>>,
    stop: Stop,
    refuses: bool,
    tells_files: bool,
}

#[async_trait]
impl Subscriber for Log {
    async fn on(&self, event: &Event) -> Result<(), BoxError> {
        if matches!(event, Event::Output { line, .. } if line == "please stop") {
            self.stop.ask();
        }
        if self.refuses && matches!(event, Event::TrialFinished { .. }) {
            return Err("the disk is full".into());
        }
        let line = match event {
            Event::RunFinished { run, cancelled, .. } => format!("finished {run} {cancelled}"),
            Event::AttemptFinished { attempt, files, .. } if self.tells_files => {
                let texts = files.iter().map(|file| String::from_utf8_lossy(&file.contents));
                format!("attempt {attempt} left {:?}", texts.collect::<Vec<_>>())
            }
            Event::TrialFinished { trial, files } => {
                let names: Vec<_> = files.iter().map(|file| file.name).collect();
                format!("trial {} {} {names:?}", trial.key, trial.outcome)
            }
            other => serde_json::to_string(other)?,
        };
        self.events.lock().unwrap().push(line);
        Ok(())
    }
}

fn task(id: &str, prompt: &str) -> Task {
    Task::prompt(id.parse().unwrap(), prompt)
}

/// An agent that does what its prompt says.
async fn agent(program: Program) -> i32 {
    let prompt = program.flag("--prompt").unwrap().to_owned();
    let (verb, rest) = prompt.split_once(' ').unwrap_or((prompt.as_str(), ""));
    program.write("/results/transcript.jsonl", format!("{{\"prompt\":\"{rest}\"}}\n"));
    program.write(
        "/results/summary.json",
        r#"{"turns":2,"usage":{"prompt_tokens":9,"completion_tokens":1}}"#,
    );
    match verb {
        "answer" => program.print(rest.to_owned()),
        "copy" => {
            let (from, to) = rest.split_once(' ').unwrap();
            let contents = program.read(from).unwrap_or_default();
            program.write(to, contents);
        }
        "leak" => program.print(format!("{}\n", program.env["OPENAI_API_KEY"])),
        "hang" => {
            program.print("working\n");
            program.complain("please stop\n");
            std::future::pending::<()>().await;
        }
        "sleep" => std::future::pending::<()>().await,
        // Kills everything it can: itself, and the sandbox with it.
        "kill-all" => {
            program.end_sandbox();
            std::future::pending::<()>().await;
        }
        "remove" => program.remove(rest),
        "flags" => program.print(program.argv[1..].join("\n")),
        "exit" => {
            program.complain(format!("fatal: exit {rest}\n"));
            return rest.parse().unwrap();
        }
        other => panic!("{other}"),
    }
    0
}

fn backend() -> MemoryBackend {
    MemoryBackend::new().with_program("/opt/goat-eval", agent)
}

fn plan(tasks: &[Task], parallel: usize) -> Plan {
    let defaults = Defaults {
        model: "test-model".into(),
        model_source: ModelSource::Mock,
        max_turns: 5,
        timeout: Duration::from_millis(300),
        network: Network::Llm,
    };
    let run = "20261124_030506_test".parse().unwrap();
    let plan = Plan::new(run, tasks, &[Variant::Baseline], &defaults, parallel).unwrap();
    Plan { grace: Duration::ZERO, ..plan }
}

async fn run_with(backend: &MemoryBackend, tasks: &[Task], log: Log) -> (Report, Arc<Log>) {
    run_plan(backend, plan(tasks, 1), log).await
}

async fn run_plan(backend: &MemoryBackend, plan: Plan, log: Log) -> (Report, Arc<Log>) {
    let upstream = Upstream::new("http://127.0.0.1:9/v1", Some(Secret::new(KEY))).unwrap();
    let log = Arc::new(log);
    let runner = Runner {
        plan: Arc::new(plan),
        backend: Arc::new(backend.clone()),
        model: Arc::new(Direct { upstream, keys: None }),
        events: Events::new(vec![Arc::clone(&log) as _]),
        stop: log.stop.clone(),
        retry_delay: Duration::ZERO,
    };
    (sandbox_runner::run(runner).await.unwrap(), log)
}

async fn run(tasks: &[Task]) -> (Report, Arc<Log>) {
    run_with(&backend(), tasks, Log::default()).await
}

fn command(command: &str) -> Check {
    Check::Command { command: command.into(), timeout: Duration::from_secs(5) }
}

#[tokio::test]
async fn memory_conforms() {
    conformance::all(&MemoryBackend::new()).await;
}

#[tokio::test]
async fn each_way_to_end_is_told_apart() {
    let mut passes = task("passes", "copy planted.txt out.txt");
    passes.files.insert("planted.txt".into(), "{{nonce}}".into());
    passes.checks = vec![command("test -f out.txt")];
    let mut fails = task("fails", "answer 391");
    fails.checks = vec![Check::AnswerContains("392".into())];
    let mut late = task("late", "sleep");
    late.checks = vec![command("true")];
    let tasks = [
        passes,
        fails,
        task("unchecked", "answer hello"),
        late,
        task("turns", "exit 3"),
        task("tokens", "exit 6"),
        task("money", "exit 7"),
        task("model", "exit 4"),
        task("crash", "exit 101"),
    ];
    let (report, log) = run(&tasks).await;
    let ends: Vec<_> = report
        .trials
        .iter()
        .map(|trial| {
            let reason = trial.reason.clone().unwrap_or_default();
            let check = trial.verification.as_ref().map(|check| check.verdict);
            format!("{}: {} [{reason}] {check:?}", trial.key.task, trial.outcome)
        })
        .collect();
    insta::assert_snapshot!("ends", ends.join("\n"));
    insta::assert_snapshot!("events", log.events.lock().unwrap().join("\n"));
    assert!(!report.is_success() && !report.has_infrastructure_error());
    assert_eq!(report.trials[0].usage.unwrap().total(), 10);
    assert_eq!(report.trials[0].turns, Some(2));
}

#[tokio::test]
async fn a_limit_that_was_reached_is_the_agents_and_a_check_speaks_all_the_same() {
    let checked = |code: &str| {
        let mut task = task(&format!("exit-{code}"), &format!("exit {code}"));
        task.checks = vec![command("test -f /results/transcript.jsonl")];
        task
    };
    let (report, _) = run(&["3", "6", "7"].map(checked)).await;
    for trial in &report.trials {
        assert_eq!((trial.outcome, trial.attempts.len()), (Outcome::AgentError, 1));
        assert_eq!(trial.verification.as_ref().unwrap().verdict, Verdict::Passed, "{}", trial.key);
    }
    let reasons: Vec<_> = report.trials.iter().map(|it| it.reason.as_deref().unwrap()).collect();
    assert_eq!(reasons, ["turns used up", "tokens used up", "money used up"]);
}

#[tokio::test]
async fn agents_are_told_what_they_may_use_up_and_what_traces_need() {
    let allowance = Allowance {
        max_tokens: Some(50_000),
        max_cost_usd: Some(0.25),
        price: Some("0.05,0.4,0.005".parse().unwrap()),
    };
    let mut plan = Plan { allowance, traces: Traces::LiteLlm, ..plan(&[task("t", "flags ")], 1) };
    plan.trials[0].key.epoch = 3;
    let (report, _) = run_plan(&backend(), plan, Log::default()).await;
    let flags: Vec<&str> = report.trials[0].output.lines().collect();
    for wanted in [
        "--max-tokens=50000",
        "--max-cost=0.25",
        "--price=0.05,0.4,0.005",
        "--trace-session=20261124_030506_test",
        "--trace-name=t",
        "--trace-tag=variant:baseline",
        "--trace-tag=model:test-model",
        "--trace-tag=epoch:3",
    ] {
        assert!(flags.contains(&wanted), "{wanted}: {flags:?}");
    }
    let (report, _) = run(&[task("t", "flags ")]).await;
    let said = &report.trials[0].output;
    assert!(
        !["max-tokens", "max-cost", "price", "trace"].iter().any(|it| said.contains(it)),
        "{said}"
    );
}

#[tokio::test]
async fn a_sandbox_that_fails_is_tried_again_and_every_attempt_is_kept() {
    let backend = backend();
    backend.fail_creates(2);
    let (report, _) = run_with(&backend, &[task("a", "answer x")], Log::default()).await;
    let trial = &report.trials[0];
    assert_eq!(trial.outcome, Outcome::Completed);
    let outcomes: Vec<_> = trial.attempts.iter().map(|attempt| attempt.outcome.name()).collect();
    assert_eq!(outcomes, ["infrastructure_error", "infrastructure_error", "completed"]);

    backend.fail_creates(100);
    let (report, _) = run_with(&backend, &[task("a", "answer x")], Log::default()).await;
    assert_eq!(report.trials[0].attempts.len(), 3);
    assert_eq!(report.trials[0].reason.as_deref(), Some("can't create a sandbox: told to fail"));
    assert!(report.has_infrastructure_error());
}

#[tokio::test]
async fn agent_and_model_errors_are_not_tried_again() {
    let (report, _) = run(&[task("m", "exit 4"), task("a", "exit 1")]).await;
    assert!(report.trials.iter().all(|trial| trial.attempts.len() == 1));
}

#[tokio::test]
async fn ending_a_run_ends_its_sandboxes_and_keeps_what_was_said() {
    let backend = backend();
    let tasks = [task("first", "hang"), task("second", "answer x")];
    let (report, _) = run_with(&backend, &tasks, Log::default()).await;
    assert!(report.cancelled);
    let [first, second] = &report.trials[..] else { panic!("two trials") };
    assert_eq!((first.outcome, first.output.as_str()), (Outcome::Cancelled, "working"));
    assert_eq!(second.outcome, Outcome::NotRun);
    assert!(backend.alive().is_empty());
}

#[tokio::test]
async fn what_an_agent_does_to_its_sandbox_is_its_own_failure() {
    let checked = |id: &str, prompt: &str| {
        let mut task = task(id, prompt);
        task.checks = vec![command("test -f out.txt")];
        task
    };
    let tasks = [
        checked("workspace", "remove /workspace"),
        checked("results", "remove /results"),
        checked("sandbox", "kill-all"),
    ];
    let backend = backend();
    let (report, _) = run_with(&backend, &tasks, Log::default()).await;
    let ends = report.trials.iter().map(|trial| {
        let reason = trial.reason.clone().unwrap_or_default();
        format!("{} {} of {}: {reason}", trial.key.task, trial.outcome, trial.attempts.len())
    });
    insta::assert_snapshot!(ends.collect::<Vec<_>>().join("\n"), @r"
    workspace failed of 1: not so: `test -f out.txt` succeeds
    results failed of 1: not so: `test -f out.txt` succeeds
    sandbox agent error of 1: what ran in the sandbox ended the sandbox itself
    ");
    assert!(!report.has_infrastructure_error() && backend.alive().is_empty());
    let check = report.trials[0].verification.as_ref().unwrap();
    assert_eq!(check.check, "`test -f out.txt` succeeds");
}

#[tokio::test]
async fn an_agent_that_can_t_start_is_not_tried_again() {
    let (report, _) = run_with(&MemoryBackend::new(), &[task("a", "x")], Log::default()).await;
    let trial = &report.trials[0];
    assert_eq!((trial.outcome, trial.attempts.len()), (Outcome::AgentError, 1));
    assert!(trial.reason.as_ref().unwrap().contains("no such program"), "{:?}", trial.reason);
}

#[tokio::test]
async fn each_attempt_has_results_of_its_own() {
    let backend = backend();
    backend.fail_creates(1);
    run_with(&backend, &[task("a", "answer x")], Log::default()).await;
    let results: Vec<_> = backend.specs().into_iter().filter_map(|spec| spec.results).collect();
    let own = |n| format!("20261124_030506_test/a-baseline/attempt-{n}");
    assert_eq!(results, [own(1), own(2)]);
}

#[tokio::test]
async fn a_cancelled_trial_keeps_its_transcript() {
    let log = Log { tells_files: true, ..Log::default() };
    let (report, log) = run_with(&backend(), &[task("a", "hang on")], log).await;
    assert_eq!(report.trials[0].outcome, Outcome::Cancelled);
    let events = log.events.lock().unwrap().join("\n");
    assert!(events.contains(r#"attempt 1 left ["{\"prompt\":\"on\"}"#), "{events}");
    assert!(events.contains(r#"a-baseline cancelled ["transcript.jsonl""#), "{events}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_does_not_hold_up_who_wants_to_end() {
    let backend = backend();
    backend.hang();
    let began = tokio::time::Instant::now();
    let (report, _) = run_with(&backend, &[task("a", "hang")], Log::default()).await;
    assert!(began.elapsed() <= Duration::from_secs(2), "it took {:?}", began.elapsed());
    let [attempt] = &report.trials[0].attempts[..] else { panic!("one attempt") };
    assert_eq!(attempt.outcome, Outcome::Cancelled);
    let said = "did not end the sandbox `sb-memory-1` before the run was ended";
    assert_eq!(attempt.cleanup_error.as_deref(), Some(said));
}

#[tokio::test]
async fn no_sandbox_outlives_its_trial() {
    let backend = backend();
    let tasks = [task("a", "answer x"), task("b", "exit 9"), task("c", "sleep")];
    run_with(&backend, &tasks, Log::default()).await;
    assert!(backend.alive().is_empty());
}

#[tokio::test]
async fn the_key_is_in_no_output_event_or_file() {
    let (report, log) = run(&[task("a", "leak")]).await;
    assert_eq!(report.trials[0].output, "****");
    let events = log.events.lock().unwrap().join("\n");
    assert!(!events.contains(KEY));
    assert!(!format!("{report:?}").contains(KEY));
}

#[tokio::test]
async fn a_result_that_was_not_written_fails_the_run() {
    let log = Log { refuses: true, ..Log::default() };
    let (report, _) = run_with(&backend(), &[task("a", "answer x")], log).await;
    assert!(report.has_infrastructure_error());
    assert_eq!(report.failures[0].to_string(), "the disk is full");
}

#[tokio::test]
async fn long_prompts_go_through_a_file() {
    let backend = MemoryBackend::new().with_program("sh", |program| async move {
        let prompt = program.read("/tmp/goat-prompt").unwrap_or_default();
        program.print(format!("{} {}", program.argv[2], prompt.len()));
        0
    });
    let (report, _) = run_with(&backend, &[task("a", &"x".repeat(40_000))], Log::default()).await;
    assert_eq!(report.trials[0].output, r#"exec "$0" "$@" < /tmp/goat-prompt 40000"#);
}

#[tokio::test]
async fn the_journal_holds_every_event_and_its_format() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runs/journal.jsonl");
    let journal = Journal::create(&path).await.unwrap();
    let events = Events::new(vec![Arc::new(journal)]);
    let run = "20261124_030506_test".parse().unwrap();
    events.send(Event::RunStarted { run, trials: 1 }).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["journal"], 1);
    assert_eq!((&lines[1]["event"], &lines[1]["trials"]), (&"run_started".into(), &1.into()));
}
