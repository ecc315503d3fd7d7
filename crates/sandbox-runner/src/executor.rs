//! One trial: its attempts, each in a sandbox of its own.

use std::time::{Duration, Instant};

use eval_types::{Allowance, Attempt, Outcome, Trial, Verification};
use jiff::Timestamp;

use crate::{
    Error, Network, Result, Runner,
    backend::{AGENT, Exec, RESULTS, Sandbox, WORKSPACE},
    capture::{Capture, follow},
    claims::Claims,
    event::{Descriptor, Event, TrialFile, millis},
    extras::{MCP_CONFIG, SKILLS, Traces},
    lease::{create, spec, terminate},
    plan::{Plan, PlannedTrial},
    relay::ModelGrant,
    stop::{COLLECTING, ENDING},
    task::{Task, nonce},
    verify::verify,
};

/// What the backend may need to report that it killed the agent at its time-out.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(20);
/// Taking what an agent left, which decides what lies there.
const COLLECT: Duration = Duration::from_secs(120);
/// Access to the model, which may need a server to be found again.
const GRANT: Duration = Duration::from_secs(90);
/// Most bytes taken of one file that an agent left.
const LARGEST_FILE: usize = 64 * 1024 * 1024;
/// Arguments of a program are limited to 65,536 characters; longer prompts go through a file.
const LONGEST_ARGUMENT: usize = 30_000;
/// Where such a prompt lies.
const PROMPT_FILE: &str = "/tmp/goat-prompt";

/// Exit codes of the agent that mean something; see `goat-eval`.
mod exit {
    pub(super) const ANSWERED: i32 = 0;
    pub(super) const TURNS_USED_UP: i32 = 3;
    pub(super) const MODEL_ERROR: i32 = 4;
    pub(super) const TIMED_OUT: i32 = 5;
    pub(super) const TOKENS_USED_UP: i32 = 6;
    pub(super) const COST_USED_UP: i32 = 7;
}

/// What an agent did in one attempt.
#[derive(Default)]
struct Work {
    /// Whether the agent was started: from then on what happens inside is its doing.
    has_begun: bool,
    stdout: Capture,
    stderr: Capture,
    exit_code: Option<i32>,
    timed_out: bool,
    elapsed: Duration,
    claims: Claims,
    /// What the agent was told its trace is.
    trace_id: Option<String>,
    files: Vec<TrialFile>,
    verification: Option<Verification>,
}

/// One attempt and what it left.
struct Tried {
    attempt: Attempt,
    work: Work,
    /// Whether another attempt may do better.
    may_retry: bool,
    task: Task,
    output: String,
    stderr: String,
}

/// Runs a trial to its end and tells everybody.
pub(crate) async fn trial(runner: &Runner, planned: &PlannedTrial) -> Trial {
    let began = Instant::now();
    let mut attempts = Vec::new();
    let mut number = 1;
    let last = loop {
        let tried = attempt(runner, planned, number).await;
        let reason = tried.attempt.reason.clone();
        attempts.push(tried.attempt.clone());
        let again = tried.may_retry && number < runner.plan.attempts && !runner.stop.is_asked();
        if !again {
            break tried;
        }
        number += 1;
        back_off(runner, planned, number, reason).await;
    };
    let work = last.work;
    let trial = Trial {
        key: planned.key.clone(),
        prompt: last.task.prompt,
        model: planned.model.clone(),
        model_source: planned.model_source,
        output: last.output,
        stderr: last.stderr,
        exit_code: work.exit_code,
        outcome: last.attempt.outcome,
        reason: last.attempt.reason.clone(),
        verification: work.verification,
        started_at: attempts.first().map_or_else(Timestamp::now, |attempt| attempt.started_at),
        elapsed_s: work.elapsed.as_secs_f64(),
        total_s: began.elapsed().as_secs_f64(),
        turns: work.claims.turns,
        usage: work.claims.usage,
        cost_usd: work.claims.cost_usd,
        attempts,
    };
    let finished = Event::TrialFinished { trial: Box::new(trial.clone()), files: work.files };
    runner.events.send(finished).await;
    trial
}

/// A trial that never began.
pub(crate) async fn not_run(runner: &Runner, planned: &PlannedTrial) -> Trial {
    let trial = planned.not_run();
    let finished = Event::TrialFinished { trial: Box::new(trial.clone()), files: Vec::new() };
    runner.events.send(finished).await;
    trial
}

async fn back_off(runner: &Runner, planned: &PlannedTrial, number: u32, reason: Option<String>) {
    let failed = number.saturating_sub(1);
    let (trial, after_ms) = (planned.key.clone(), millis(runner.delay_after(failed)));
    runner.events.send(Event::Retrying { trial, attempt: number, reason, after_ms }).await;
    runner.back_off(failed).await;
}

/// One attempt. The sandbox is ended on every path.
async fn attempt(runner: &Runner, planned: &PlannedTrial, number: u32) -> Tried {
    let (started_at, began) = (Timestamp::now(), Instant::now());
    let mut work = Work::default();
    let mut task = (*planned.task).clone();
    let mut sandbox_id = None;
    let mut cleanup_error = None;
    let mut grant = None;
    let ended = async {
        task = planned.task.with_nonce(&random()?);
        let granted = runner.stop.within(GRANT, Duration::ZERO, runner.model.grant(&planned.key));
        let grant = match granted.await {
            Some(granted) => grant.insert(granted?),
            None if runner.stop.is_asked() => return Ok(Outcome::Cancelled),
            None => {
                let doing = "open a way to the model".to_owned();
                return Err(Error::Deadline { doing, limit: GRANT });
            }
        };
        let sandbox = match create(runner, &spec(runner, planned, grant, number)).await {
            Ok(Some(sandbox)) => sandbox,
            Ok(None) => return Ok(Outcome::Cancelled),
            Err(error @ Error::Stopped { .. }) => {
                cleanup_error = Some(error.chain());
                return Ok(Outcome::Cancelled);
            }
            Err(error) => return Err(error),
        };
        sandbox_id = Some(sandbox.id().to_owned());
        let (trial, id) = (planned.key.clone(), sandbox.id().to_owned());
        let started = Event::AttemptStarted { trial, attempt: number, sandbox: id };
        runner.events.send(started).await;
        let ended = tokio::select! {
            biased;
            () = runner.stop.asked() => Ok(Outcome::Cancelled),
            ended = in_sandbox(runner, planned, &task, grant, &*sandbox, &mut work) => ended,
        };
        let ended = match ended {
            Ok(Outcome::Cancelled) => {
                collect(runner, &*sandbox, grant, &mut work).await;
                ended
            }
            Ok(_) => ended,
            Err(error) => blame(&*sandbox, error, &mut work).await,
        };
        cleanup_error = terminate(runner, &*sandbox).await.err().map(|error| error.chain());
        ended
    }
    .await;
    let secret = grant.as_ref().map(|grant| &grant.key);
    let may_retry = ended.as_ref().is_err_and(|error| !matches!(error, Error::Refused { .. }));
    let (outcome, reason) = match ended {
        Ok(outcome) => (outcome, reason(outcome, &work).map(|text| for_people(text, &grant))),
        Err(error) => (Outcome::InfrastructureError, Some(error.chain())),
    };
    let (trial, why, files) = (planned.key.clone(), reason.clone(), work.files.clone());
    let finished = Event::AttemptFinished { trial, attempt: number, outcome, reason: why, files };
    runner.events.send(finished).await;
    let attempt = Attempt {
        number,
        sandbox: sandbox_id,
        outcome,
        reason,
        started_at,
        elapsed_s: began.elapsed().as_secs_f64(),
        exit_code: work.exit_code,
        cleanup_error,
        trace_id: work.trace_id.clone(),
    };
    let (output, stderr) = (work.stdout.text(secret), work.stderr.text(secret));
    Tried { attempt, work, may_retry, task, output, stderr }
}

/// A trial's own random value.
fn random() -> Result<String> {
    nonce().map_err(|error| Error::backend("make a random value", error))
}

async fn in_sandbox(
    runner: &Runner,
    planned: &PlannedTrial,
    task: &Task,
    grant: &ModelGrant,
    sandbox: &dyn Sandbox,
    work: &mut Work,
) -> Result<Outcome> {
    for (path, contents) in &task.files {
        sandbox.write_file(&format!("{WORKSPACE}/{path}"), contents.as_bytes()).await?;
    }
    agent(runner, planned, task, grant, sandbox, work).await?;
    collect(runner, sandbox, grant, work).await;
    let outcome = ended(work);
    if matches!(outcome, Outcome::Completed | Outcome::TimedOut) || used_up(work).is_some() {
        let answer = work.stdout.text(None);
        work.verification = verify(sandbox, &task.checks, &answer).await?;
    }
    Ok(match (&outcome, &work.verification) {
        (Outcome::Completed, Some(check)) => check.verdict.into(),
        _ => outcome,
    })
}

/// Runs the agent to its end, or to its time-out.
async fn agent(
    runner: &Runner,
    planned: &PlannedTrial,
    task: &Task,
    grant: &ModelGrant,
    sandbox: &dyn Sandbox,
    work: &mut Work,
) -> Result<()> {
    if task.prompt.len() > LONGEST_ARGUMENT {
        sandbox.write_file(PROMPT_FILE, task.prompt.as_bytes()).await?;
    }
    let limit = planned.timeout + runner.plan.grace;
    let trace = Trace::new(runner.plan.traces)?;
    let mut exec = Exec::new(argv(runner, planned, task, trace.as_ref()), limit);
    work.trace_id = trace.map(|trace| trace.id);
    if planned.network != Network::None {
        exec.secrets.insert("OPENAI_API_KEY".to_owned(), grant.key.clone());
    }
    if let Some(mcp) = runner.plan.extras.mcp.as_ref().filter(|_| planned.key.variant.has_mcp()) {
        exec.secrets.extend(mcp.variables.clone());
    }
    let began = Instant::now();
    let running = match sandbox.exec(&exec).await {
        Err(error @ Error::Refused { .. }) => {
            work.claims.error = Some(format!(
                "the agent does not start (one that needs a loader must find it in the image): {}",
                error.chain()
            ));
            return Ok(());
        }
        running => running?,
    };
    work.has_begun = true;
    let tell = |descriptor| {
        let (events, trial) = (runner.events.clone(), planned.key.clone());
        async move |line| {
            let trial = trial.clone();
            events.send(Event::Output { trial, descriptor, line }).await;
        }
    };
    let all = async {
        let outputs = async {
            let (out, err) = tokio::join!(
                work.stdout.fill(running.stdout, Some(&grant.key), tell(Descriptor::Stdout)),
                work.stderr.fill(running.stderr, Some(&grant.key), tell(Descriptor::Stderr))
            );
            out.and(err)
        };
        follow(running.exit, outputs).await
    };
    let code = tokio::time::timeout(limit + KILL_GRACE, all).await;
    work.elapsed = began.elapsed();
    match code {
        Ok(code) => work.exit_code = Some(code?),
        // The backend did not kill it; what follows in this sandbox cannot be trusted to end.
        Err(_) => {
            let doing = "end the agent at its time-out".to_owned();
            return Err(Error::Deadline { doing, limit: limit + KILL_GRACE });
        }
    }
    let killed = !matches!(work.exit_code, Some(exit::ANSWERED..=exit::COST_USED_UP));
    work.timed_out = killed && work.elapsed >= planned.timeout;
    Ok(())
}

fn argv(
    runner: &Runner,
    planned: &PlannedTrial,
    task: &Task,
    trace: Option<&Trace>,
) -> Vec<String> {
    let mut flags = vec![
        format!("--cwd={WORKSPACE}"),
        format!("--max-turns={}", planned.max_turns),
        format!("--timeout={}", planned.timeout.as_secs_f64()),
        format!("--transcript={RESULTS}/transcript.jsonl"),
        format!("--summary={RESULTS}/summary.json"),
    ];
    flags.extend(allowance_flags(&runner.plan.allowance));
    flags.extend(extra_flags(&runner.plan, planned));
    flags.extend(trace.into_iter().flat_map(|trace| trace.flags(&runner.plan, planned)));
    let mut argv = if task.prompt.len() > LONGEST_ARGUMENT {
        let script = format!(r#"exec "$0" "$@" < {PROMPT_FILE}"#);
        vec!["sh".to_owned(), "-c".to_owned(), script, AGENT.to_owned()]
    } else {
        flags.insert(0, format!("--prompt={}", task.prompt));
        vec![AGENT.to_owned()]
    };
    argv.append(&mut flags);
    argv
}

fn extra_flags(plan: &Plan, planned: &PlannedTrial) -> Vec<String> {
    let mut flags = Vec::new();
    if planned.key.variant.has_skills() {
        flags.push(format!("--skills-dir={SKILLS}"));
    }
    if let Some(mcp) = plan.extras.mcp.as_ref().filter(|_| planned.key.variant.has_mcp()) {
        flags.push(format!("--mcp-config={MCP_CONFIG}"));
        flags.extend(mcp.variables.keys().map(|name| format!("--mcp-env={name}")));
    }
    flags
}

fn allowance_flags(allowance: &Allowance) -> impl Iterator<Item = String> {
    let tokens = allowance.max_tokens.map(|tokens| format!("--max-tokens={tokens}"));
    let cost = allowance.max_cost_usd.map(|cost| format!("--max-cost={cost}"));
    let price = allowance.price.map(|price| format!("--price={price}"));
    [tokens, cost, price].into_iter().flatten()
}

/// One trace for each attempt; all traces of a run are one session.
struct Trace {
    id: String,
    span: String,
}

impl Trace {
    /// A new one, where calls carry any.
    fn new(traces: Traces) -> Result<Option<Self>> {
        if traces == Traces::Nothing {
            return Ok(None);
        }
        let mut ids = [0u8; 24];
        getrandom::fill(&mut ids).map_err(|error| Error::backend("make a random value", error))?;
        // Ids of nothing but zeros are none.
        (ids[0], ids[16]) = (ids[0] | 1, ids[16] | 1);
        Ok(Some(Self { id: hex::encode(&ids[..16]), span: hex::encode(&ids[16..]) }))
    }

    fn flags(&self, plan: &Plan, planned: &PlannedTrial) -> Vec<String> {
        let mut flags = vec![format!("--traceparent=00-{}-{}-01", self.id, self.span)];
        if plan.traces == Traces::LiteLlm {
            let PlannedTrial { key, model, .. } = planned;
            flags.push(format!("--trace-session={}", plan.run));
            flags.push(format!("--trace-name={}", key.task));
            let (variant, epoch) = (key.variant, key.epoch);
            let tags =
                [format!("variant:{variant}"), format!("model:{model}"), format!("epoch:{epoch}")];
            flags.extend(tags.map(|tag| format!("--trace-tag={tag}")));
        }
        flags
    }
}

/// Takes what the agent left. None of it is needed, and what can't be read is not there: the agent
/// decides what lies where it writes.
async fn collect(runner: &Runner, sandbox: &dyn Sandbox, grant: &ModelGrant, work: &mut Work) {
    if !work.files.is_empty() || !work.has_begun {
        return;
    }
    let reading = async {
        for name in ["transcript.jsonl", "summary.json"] {
            let path = format!("{RESULTS}/{name}");
            let contents = match sandbox.read_file(&path, LARGEST_FILE).await {
                Ok(Some(contents)) => grant.key.redact_bytes(contents),
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(error = error.chain(), "a file of the agent is not kept");
                    continue;
                }
            };
            if name == "summary.json" {
                work.claims = Claims::parse(&contents);
            }
            work.files.push(TrialFile { name, contents });
        }
    };
    let _read_so_far = runner.stop.within(COLLECT, COLLECTING, reading).await;
}

/// Whose doing it is that an attempt broke off. What runs inside can end its sandbox, by killing all it
/// may kill or by using up the memory, and that is no failure of ours.
async fn blame(sandbox: &dyn Sandbox, error: Error, work: &mut Work) -> Result<Outcome> {
    let is_gone = matches!(error, Error::SandboxGone { .. });
    let theirs = work.has_begun && is_gone && {
        let asking = tokio::time::timeout(ENDING, sandbox.ended_from_inside());
        asking.await.unwrap_or_default()
    };
    if !theirs {
        return Err(error);
    }
    work.claims.error = Some("what ran in the sandbox ended the sandbox itself".to_owned());
    Ok(Outcome::AgentError)
}

/// The limit that the agent reached without an answer, where it did. What it has done by then may be enough: a check
/// speaks all the same.
fn used_up(work: &Work) -> Option<&'static str> {
    match work.exit_code? {
        exit::TURNS_USED_UP => Some("turns used up"),
        exit::TOKENS_USED_UP => Some("tokens used up"),
        exit::COST_USED_UP => Some("money used up"),
        _ => None,
    }
}

/// How the agent ended, before any check has spoken.
fn ended(work: &Work) -> Outcome {
    match work.exit_code {
        _ if work.timed_out => Outcome::TimedOut,
        Some(exit::ANSWERED) => Outcome::Completed,
        Some(exit::TIMED_OUT) => Outcome::TimedOut,
        Some(exit::MODEL_ERROR) => Outcome::ModelError,
        _ => Outcome::AgentError,
    }
}

/// In a sandbox the model has a relay's address, which tells nobody anything.
fn for_people(text: String, grant: &Option<ModelGrant>) -> String {
    grant.as_ref().map(|grant| grant.for_people(&text)).unwrap_or(text)
}

fn reason(outcome: Outcome, work: &Work) -> Option<String> {
    match outcome {
        Outcome::AgentError | Outcome::ModelError => {
            if let Some(limit) = used_up(work) {
                return Some(limit.to_owned());
            }
            let stderr = work.stderr.text(None);
            let last = stderr.lines().last().map(str::to_owned);
            let said = work.claims.error.clone().or(last).unwrap_or_default();
            let Some(code) = work.exit_code else { return Some(said) };
            Some(format!("exit code {code}: {said}").trim_end_matches([':', ' ']).to_owned())
        }
        Outcome::Failed => {
            work.verification.as_ref().map(|check| format!("not so: {}", check.check))
        }
        _ => None,
    }
}
