//! Cleans up after commands that were killed, or could not end in order.

use std::{collections::BTreeMap, time::Duration};

use eval_types::{Attempt, Outcome, Run, Trial, TrialKey};
use jiff::Timestamp;
use sandbox_runner::{SandboxBackend, backend::RUN_TAG};

use crate::{backend::Connection, context::Context, results_sink::Places, target::Target};

/// Cleaning up after one run. A server that does not answer must not keep a command waiting.
const LIMIT: Duration = Duration::from_secs(20);
/// What a run says of itself whose process was killed.
const KILLED: &str = "its process was killed before it ended";
/// What a trial of it says that had begun.
const INTERRUPTED: &str = "the process of the run was killed";

/// Which servers a command may start to clean up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A server that runs; without one nothing is left running either.
    Running,
    /// The target's.
    Any,
}

/// Ends the sandboxes of runs that nobody works on any more and closes those runs. Trials that they
/// finished are kept. What can't be cleaned up is said and left for the next time.
pub(crate) async fn left_over(context: &Context, reach: Reach) {
    match runs(context).await {
        Ok(runs) if runs.is_empty() => {}
        Ok(runs) => close_all(context, reach, runs).await,
        Err(error) => context.printer.warn(&format!("can't look for killed runs: {error:#}")),
    }
}

/// Runs that are not closed, whether somebody works on them or not.
async fn runs(context: &Context) -> anyhow::Result<Vec<Run>> {
    let Some(index) = context.state.existing_index().await? else { return Ok(Vec::new()) };
    Ok(index.unfinished().await?)
}

/// How far a command goes for a run of a target that may not be its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Clean up there.
    Go(Target, Reach),
    /// Say who can: an account of Modal is not used by a command that was not told to.
    Tell,
}

/// Cleaning up on this machine costs nothing, so that any command does it while its server runs.
fn way(chosen: Target, reach: Reach, run: &Run) -> Way {
    let of_modal = run.target == Target::Modal.name();
    match chosen {
        Target::Modal if of_modal => Way::Go(Target::Modal, reach),
        Target::Modal => Way::Go(Target::Local, Reach::Running),
        Target::Local if of_modal => Way::Tell,
        Target::Local => Way::Go(Target::Local, reach),
    }
}

async fn close_all(context: &Context, reach: Reach, runs: Vec<Run>) {
    for run in runs {
        // Held by the process that works on the run, for as long as it lives.
        let lock = match context.state.lock_run(&run.id) {
            Ok(Some(lock)) => lock,
            Ok(None) => continue,
            Err(error) => {
                context.printer.warn(&format!("can't look after run {}: {error:#}", run.id));
                continue;
            }
        };
        let id = run.id.clone();
        let Way::Go(target, reach) = way(context.choice.target, reach, &run) else {
            context.printer.note(&format!(
                "run {id} on target modal did not end in order: `cargo xtask results --target modal` \
                 cleans up after it"
            ));
            continue;
        };
        let connection = Connection::to(context, target, &run.environment);
        if reach == Reach::Running
            && let Some(local) = connection.local()
            && !local.is_running().await
        {
            continue;
        }
        let closed = tokio::time::timeout(LIMIT, close_run(context, &connection, run)).await;
        let closed = closed.unwrap_or_else(|_| {
            Err(anyhow::anyhow!("the server did not answer within {} s", LIMIT.as_secs()))
        });
        drop(lock);
        match closed {
            Ok(said) => {
                context.state.forget_lock(&id);
                context.printer.note(&said);
            }
            Err(error) => {
                let text = format!("can't clean up after run {id}, left for later: {error:#}");
                context.printer.warn(&text);
            }
        }
    }
}

async fn close_run(context: &Context, connection: &Connection, run: Run) -> anyhow::Result<String> {
    let places = Places {
        index: context.state.index().await?,
        here: context.state.files()?,
        volume: connection.volume_files(),
    };
    close(&places, &connection.sweeper(), run).await
}

/// Closes one run and says what became of it.
async fn close(
    places: &Places,
    backend: &dyn SandboxBackend,
    mut run: Run,
) -> anyhow::Result<String> {
    let Places { index, here, volume } = places;
    let sandboxes = backend.end_tagged(RUN_TAG, run.id.as_str()).await?;
    let written = recover(places, &run).await?;
    let interrupted = interrupt(places, &run).await?;
    for attempt in index.open_attempts(&run.id).await? {
        let cancelled = Outcome::Cancelled;
        index.attempt_ended(&run.id, &attempt.key, attempt.number, &cancelled).await?;
    }
    let trials = in_order(index.planned(&run.id).await?, index.run(&run.id).await?.1);
    let was_killed = run.finished_at.is_none();
    if was_killed {
        run.finished_at = Some(Timestamp::now());
        run.error = Some(KILLED.to_owned());
    }
    here.put_summary(&run, &trials).await?;
    here.copy_missing(run.id.as_str(), volume).await?;
    volume.put_summary(&run, &trials).await?;
    index.finish(&run).await?;
    let (id, all) = (&run.id, trials.len());
    let kept = all - interrupted;
    tracing::debug!(%id, written, "trials that only the files had");
    Ok(match was_killed {
        true => format!(
            "run {id} was killed: {sandboxes} sandboxes ended, {kept} of {all} results kept"
        ),
        false => format!(
            "run {id} had not ended in order: {sandboxes} sandboxes ended, results complete"
        ),
    })
}

/// Takes trials into the index whose files were written before the process ended. Answers how many.
async fn recover(places: &Places, run: &Run) -> anyhow::Result<usize> {
    let known = index_keys(places, run).await?;
    let (files, _unreadable) = places.here.trials(run.id.as_str()).await?;
    let mut recovered = 0;
    for trial in files.iter().filter_map(results_store::format::TrialFile::to_trial) {
        if !known.contains(&trial.key) {
            places.index.record_trial(&run.id, &trial).await?;
            recovered += 1;
        }
    }
    Ok(recovered)
}

/// Writes what became of the trials that have no result: cancelled where an attempt had begun, else
/// not run. Answers how many.
async fn interrupt(places: &Places, run: &Run) -> anyhow::Result<usize> {
    let known = index_keys(places, run).await?;
    let mut attempts: BTreeMap<TrialKey, Vec<Attempt>> = BTreeMap::new();
    for tried in places.index.attempts(&run.id).await? {
        attempts.entry(tried.key).or_default().push(tried.attempt);
    }
    let mut interrupted = 0;
    for mut trial in places.index.planned(&run.id).await? {
        if known.contains(&trial.key) {
            continue;
        }
        if let Some(attempts) = attempts.remove(&trial.key) {
            trial.outcome = Outcome::Cancelled;
            trial.reason = Some(INTERRUPTED.to_owned());
            trial.started_at = attempts.first().map_or(trial.started_at, |it| it.started_at);
            trial.attempts = attempts;
        }
        places.here.put_trial(&run.id, &trial).await?;
        places.index.record_trial(&run.id, &trial).await?;
        interrupted += 1;
    }
    Ok(interrupted)
}

async fn index_keys(places: &Places, run: &Run) -> anyhow::Result<Vec<TrialKey>> {
    let (_, trials) = places.index.run(&run.id).await?;
    Ok(trials.into_iter().map(|trial| trial.key).collect())
}

/// The trials in the order of the plan; what the plan does not know, at the end.
fn in_order(planned: Vec<Trial>, mut trials: Vec<Trial>) -> Vec<Trial> {
    let place =
        |trial: &Trial| planned.iter().position(|it| it.key == trial.key).unwrap_or(planned.len());
    trials.sort_by_key(place);
    trials
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eval_types::{ModelSource, Variant};
    use object_store::memory::InMemory;
    use results_store::{Artifact, Index, RunFiles};
    use sandbox_runner::{
        Defaults, Network, Plan, Task,
        backend::{self, SandboxSpec, memory::MemoryBackend},
    };

    use super::*;

    fn run() -> Run {
        Run {
            id: "20261126_030506_kill".parse().unwrap(),
            started_at: "2026-11-26T03:05:06Z".parse().unwrap(),
            finished_at: None,
            target: "local".into(),
            environment: "goat".into(),
            benchmark: None,
            model: "m".into(),
            model_source: ModelSource::Mock,
            answered_by: String::new(),
            mode: "baseline".into(),
            skills_dir: None,
            mcp_config: None,
            image: "debian_slim".into(),
            network: "open".into(),
            allowance: Default::default(),
            agent_sha256: String::new(),
            total_tasks: 4,
            total_trials: 4,
            parallel: 1,
            substitutions: vec![],
            error: None,
        }
    }

    fn planned() -> Vec<Trial> {
        let tasks = ["indexed", "written", "begun", "waiting"];
        let tasks = tasks.map(|id| Task::prompt(id.parse().unwrap(), format!("do {id}")));
        let defaults = Defaults {
            model: "m".into(),
            model_source: ModelSource::Mock,
            max_turns: 1,
            timeout: Duration::from_secs(9),
            network: Network::Open,
        };
        let plan = Plan::new(run().id, &tasks, &[Variant::Baseline], &defaults, 1).unwrap();
        plan.trials.iter().map(|trial| trial.not_run()).collect()
    }

    async fn places(directory: &std::path::Path) -> Places {
        let index = Index::open(&directory.join("index.sqlite")).await.unwrap();
        let files = || RunFiles::new(Arc::new(InMemory::new()));
        Places { index, here: files(), volume: files() }
    }

    async fn sandbox(backend: &MemoryBackend, id: &str) {
        let spec = SandboxSpec {
            tags: BTreeMap::from([(RUN_TAG.to_owned(), id.to_owned())]),
            results: None,
            env: BTreeMap::new(),
            timeout: Duration::from_secs(60),
            reach: backend::Reach::Nothing,
            skills: false,
            mcp: false,
        };
        backend.create(&spec).await.unwrap();
    }

    fn outcomes(trials: &[results_store::format::TrialFile]) -> Vec<String> {
        trials.iter().map(|trial| format!("{} {}", trial.id, trial.outcome())).collect()
    }

    #[test]
    fn every_command_cleans_up_here_and_none_uses_an_account_unasked() {
        let of = |target: &str| Run { target: target.into(), ..run() };
        let (modal, local) = (of("modal"), of("local"));
        let any = Reach::Any;
        assert_eq!(way(Target::Local, any, &local), Way::Go(Target::Local, any));
        assert_eq!(way(Target::Local, any, &modal), Way::Tell);
        assert_eq!(way(Target::Modal, any, &modal), Way::Go(Target::Modal, any));
        assert_eq!(way(Target::Modal, any, &local), Way::Go(Target::Local, Reach::Running));
    }

    #[tokio::test]
    async fn a_killed_run_keeps_what_it_finished_and_says_of_the_rest_what_became_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(directory.path()).await;
        let (backend, run) = (MemoryBackend::new(), run());
        sandbox(&backend, run.id.as_str()).await;
        let planned = planned();
        places.index.begin(&run).await.unwrap();
        places.index.plan(&run.id, &planned).await.unwrap();
        let done = |at: usize| Trial { outcome: Outcome::Passed, ..planned[at].clone() };
        places.here.put_trial(&run.id, &done(0)).await.unwrap();
        places.index.record_trial(&run.id, &done(0)).await.unwrap();
        // Killed between the two.
        let transcript = Artifact { name: "transcript.jsonl".into(), contents: "{}".into() };
        places.here.put_artifact(&run.id, &planned[1].key, &transcript).await.unwrap();
        places.here.put_trial(&run.id, &done(1)).await.unwrap();
        places.index.attempt_started(&run.id, &planned[2].key, 1, "sb-1").await.unwrap();

        let said = close(&places, &backend, run.clone()).await.unwrap();

        assert!(said.ends_with("1 sandboxes ended, 2 of 4 results kept"), "{said}");
        assert!(backend.alive().is_empty());
        assert!(places.index.unfinished().await.unwrap().is_empty());
        assert!(places.index.open_attempts(&run.id).await.unwrap().is_empty());
        let wanted = ["indexed passed", "written passed", "begun cancelled", "waiting not run"];
        for files in [&places.here, &places.volume] {
            let stored = files.run(run.id.as_str()).await.unwrap();
            assert_eq!(outcomes(&stored.summary.results), wanted);
            assert_eq!(stored.summary.error.as_deref(), Some(KILLED));
            let kept = files.artifact(run.id.as_str(), "written-baseline", "transcript.jsonl");
            assert_eq!(kept.await.unwrap(), "{}");
        }
        let (record, trials) = places.index.run(&run.id).await.unwrap();
        assert_eq!((record.error.as_deref(), trials.len()), (Some(KILLED), 4));
    }

    #[tokio::test]
    async fn a_run_that_could_not_clean_up_is_closed_and_not_called_killed() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(directory.path()).await;
        let (backend, mut run) = (MemoryBackend::new(), run());
        sandbox(&backend, run.id.as_str()).await;
        places.index.begin(&run).await.unwrap();
        let ended = Some("2026-11-26T03:06:00Z".parse().unwrap());
        run.finished_at = ended;
        places.index.update(&run).await.unwrap();
        let left = places.index.unfinished().await.unwrap().remove(0);

        close(&places, &backend, left).await.unwrap();

        assert!(backend.alive().is_empty());
        let (record, _) = places.index.run(&run.id).await.unwrap();
        assert_eq!((record.finished_at, record.error), (ended, None));
        assert!(places.index.unfinished().await.unwrap().is_empty());
    }
}
