//! The sandbox of an attempt: described, made, ended.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Error, Network, Result, Runner,
    backend::{RUN_TAG, Reach, Sandbox, SandboxSpec, TRIAL_TAG},
    executor::KILL_GRACE,
    plan::PlannedTrial,
    relay::ModelGrant,
    stop::ENDING,
    task::Task,
};

/// Set-up, reading results and clean-up together may take this long beyond agent and checks.
const MARGIN: Duration = Duration::from_secs(120);
/// Making a sandbox, its image being there.
const CREATE: Duration = Duration::from_secs(180);
/// Ending a sandbox.
const TERMINATE: Duration = Duration::from_secs(30);
/// Longest life of a sandbox (modal.com/docs/guide/sandbox, "Lifecycle", 2026-11).
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a sandbox lives beyond the time of its agent.
fn overhead(grace: Duration, task: &Task) -> Duration {
    (MARGIN + grace + KILL_GRACE).saturating_add(task.check_time())
}

/// The longest time of an agent that a sandbox can outlive.
pub(crate) fn longest_timeout(grace: Duration, task: &Task) -> Duration {
    LONGEST_LIFE.saturating_sub(overhead(grace, task))
}

/// The sandbox of an attempt. It ends itself after everything in it had its time. Its directory of
/// results is its own: what another attempt left, or still writes, is not in it.
pub(crate) fn spec(
    runner: &Runner,
    planned: &PlannedTrial,
    grant: &ModelGrant,
    attempt: u32,
) -> SandboxSpec {
    let tags = [(RUN_TAG, runner.plan.run.to_string()), (TRIAL_TAG, planned.key.to_string())];
    let mut env = BTreeMap::from([("EVAL_MODEL".to_owned(), planned.model.clone())]);
    if planned.network != Network::None {
        env.insert("OPENAI_BASE_URL".to_owned(), grant.base_url.clone());
    }
    SandboxSpec {
        tags: tags.map(|(name, value)| (name.to_owned(), value)).into(),
        results: Some(format!("{}/{}/attempt-{attempt}", runner.plan.run, planned.key)),
        env,
        timeout: planned.timeout + overhead(runner.plan.grace, &planned.task),
        reach: reach(&planned.network, &grant.host),
        skills: planned.key.variant.has_skills(),
        mcp: planned.key.variant.has_mcp(),
    }
}

fn reach(network: &Network, model: &str) -> Reach {
    match network {
        Network::Open => Reach::Open,
        Network::None => Reach::Nothing,
        Network::Llm => Reach::Hosts(vec![model.to_owned()]),
        Network::List(names) => {
            let names = names.iter().cloned();
            Reach::Hosts(names.chain([model.to_owned()]).collect())
        }
    }
}

/// Makes a sandbox; none if the run was ended meanwhile. A creation under way is waited for and its
/// sandbox ended: dropping the call would leave it behind. What could not be waited for is an error.
pub(crate) async fn create(
    runner: &Runner,
    spec: &SandboxSpec,
) -> Result<Option<Box<dyn Sandbox>>> {
    let (backend, spec) = (runner.backend.clone(), spec.clone());
    let mut creating = tokio::spawn(async move { backend.create(&spec).await });
    let doing = || "create a sandbox".to_owned();
    let made = tokio::select! {
        biased;
        () = runner.stop.asked() => {
            return match runner.stop.within(TERMINATE, ENDING, creating).await {
                Some(Ok(Ok(sandbox))) => terminate(runner, &*sandbox).await.map(|()| None),
                Some(_) => Ok(None),
                None => Err(Error::Stopped { doing: "end a sandbox that was being made".to_owned() }),
            };
        }
        made = tokio::time::timeout(CREATE, &mut creating) => made,
    };
    match made {
        Ok(Ok(made)) => made.map(Some),
        Ok(Err(panicked)) => Err(Error::backend(doing(), panicked)),
        Err(_) => Err(Error::Deadline { doing: doing(), limit: CREATE }),
    }
}

/// Ends a sandbox, within a deadline that is shorter where somebody waits for it.
pub(crate) async fn terminate(runner: &Runner, sandbox: &dyn Sandbox) -> Result<()> {
    let ended = runner.stop.within(TERMINATE, ENDING, sandbox.terminate()).await;
    let doing = format!("end the sandbox `{}`", sandbox.id());
    ended.unwrap_or(Err(match runner.stop.is_asked() {
        true => Error::Stopped { doing },
        false => Error::Deadline { doing, limit: TERMINATE },
    }))
}
