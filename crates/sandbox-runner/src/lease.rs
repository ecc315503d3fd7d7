//! The sandbox of an attempt: described, made, ended.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Error, Result, Runner,
    backend::{RUN_TAG, Reach, Sandbox, SandboxSpec, TRIAL_TAG},
    executor::KILL_GRACE,
    plan::{Network, PlannedTrial},
    relay::ModelGrant,
};

/// Set-up, reading results and clean-up together may take this long beyond agent and checks.
const MARGIN: Duration = Duration::from_secs(120);
/// Making a sandbox, its image being there.
const CREATE: Duration = Duration::from_secs(180);
/// Ending a sandbox.
const TERMINATE: Duration = Duration::from_secs(30);

/// The sandbox of a trial. It ends itself after everything in it had its time.
pub(crate) fn spec(runner: &Runner, planned: &PlannedTrial, grant: &ModelGrant) -> SandboxSpec {
    let tags = [(RUN_TAG, runner.plan.run.to_string()), (TRIAL_TAG, planned.key.to_string())];
    let mut env = BTreeMap::from([("EVAL_MODEL".to_owned(), planned.model.clone())]);
    if planned.network != Network::None {
        env.insert("OPENAI_BASE_URL".to_owned(), grant.base_url.clone());
    }
    SandboxSpec {
        tags: tags.map(|(name, value)| (name.to_owned(), value)).into(),
        results: Some(format!("{}/{}", runner.plan.run, planned.key)),
        env,
        timeout: MARGIN
            + planned.timeout
            + runner.plan.grace
            + KILL_GRACE
            + planned.task.check_time(),
        reach: reach(&planned.network, &grant.host),
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
/// sandbox ended: dropping the call would leave it behind.
pub(crate) async fn create(
    runner: &Runner,
    spec: &SandboxSpec,
) -> Result<Option<Box<dyn Sandbox>>> {
    let (backend, spec) = (runner.backend.clone(), spec.clone());
    let mut creating = tokio::spawn(async move { backend.create(&spec).await });
    let made = tokio::select! {
        biased;
        () = runner.stop.cancelled() => {
            if let Ok(Ok(Ok(sandbox))) = tokio::time::timeout(TERMINATE, creating).await {
                terminate(&*sandbox).await?;
            }
            return Ok(None);
        }
        made = tokio::time::timeout(CREATE, &mut creating) => made,
    };
    let doing = || "create a sandbox".to_owned();
    match made {
        Ok(Ok(made)) => made.map(Some),
        Ok(Err(panicked)) => Err(Error::backend(doing(), panicked)),
        Err(_) => Err(Error::Deadline { doing: doing(), limit: CREATE }),
    }
}

/// Ends a sandbox, within a deadline.
pub(crate) async fn terminate(sandbox: &dyn Sandbox) -> Result<()> {
    let ended = tokio::time::timeout(TERMINATE, sandbox.terminate()).await;
    let doing = format!("terminate the sandbox `{}`", sandbox.id());
    ended.unwrap_or(Err(Error::Deadline { doing, limit: TERMINATE }))
}
