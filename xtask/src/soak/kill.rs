//! Evaluations killed at random moments: no finished result is lost, nothing keeps running.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use eval_types::RunId;
use results_store::format::TrialFile;
use serde_json::json;

use crate::{
    cmd::soak::Soaking,
    context::Context,
    soak::{figures::Figures, random::SplitMix},
};

/// What is evaluated; its tasks take a second or two.
const BENCHMARK: &str = "fixtures/benchmarks/smoke.json";

/// Kills evaluations until the time is over, cleaning up by an ordinary evaluation after each.
pub(crate) async fn run(context: &Context, soaking: Soaking) -> anyhow::Result<Figures> {
    let mut random = SplitMix(soaking.seed);
    let (mut kills, mut survived, mut kept) = (0u32, 0u32, 0usize);
    // Built once: evaluations that ask cargo each time would mostly be killed while they do.
    let agent = crate::agent::build_own(context).await?.path;
    // The first builds the image; killing that would test apt. It can take longer than all that follows.
    finish(start(context, &agent)?)?;
    // How long one takes on this machine now: kills fall anywhere in it.
    let began = Instant::now();
    finish(start(context, &agent)?)?;
    let whole = began.elapsed();
    let until = Instant::now() + soaking.time;
    while Instant::now() < until {
        let mut child = start(context, &agent)?;
        tokio::time::sleep(whole.mul_f64((random.next() % 1_000) as f64 / 1_000.0)).await;
        match child.try_wait()? {
            Some(_) => survived += 1,
            None => {
                child.kill()?;
                child.wait()?;
                kills += 1;
            }
        }
        let before = finished(context).await?;
        finish(start(context, &agent)?)?;
        kept += check(context, before).await?;
        context.printer.note(&format!("{kills} kills, {kept} results of killed runs kept"));
    }
    ensure!(kills > 0, "every evaluation was faster than its kill: give it more --minutes");
    let words = format!(
        "kill: seed {}, {kills} evaluations killed, {survived} were faster, {kept} results of killed \
         runs kept and readable, no run left open, no sandbox left running",
        soaking.seed
    );
    Figures::new(words, json!({ "killed": kills, "faster": survived, "kept": kept }))
}

/// An evaluation in a process of its own.
fn start(context: &Context, agent: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        // One after the other: most kills then find something finished and something not.
        .args(["eval", "--target", "local", "--quiet", "--parallel", "1", "--batch"])
        .arg(context.workspace.path(BENCHMARK))
        .arg("--binary")
        .arg(agent)
        .env("GOAT_STATE_DIR", context.state.root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().context("can't start an evaluation")
}

fn finish(mut child: Child) -> anyhow::Result<()> {
    let status = child.wait()?;
    ensure!(status.success(), "an evaluation that nobody killed ended with {status}");
    Ok(())
}

/// What a killed run had finished: the outcome of each trial, by its name.
struct Finished {
    run: RunId,
    trials: BTreeMap<String, String>,
}

/// What each unfinished run had finished, by the index and by the files: a trial is written to the files
/// first, so that one that only they have counts too.
async fn finished(context: &Context) -> anyhow::Result<Vec<Finished>> {
    let (index, files) = (context.state.index().await?, context.state.files()?);
    let mut found = Vec::new();
    for run in index.unfinished().await? {
        let (written, _unreadable) = files.trials(run.id.as_str()).await?;
        let mut trials = outcomes(&written);
        let (_, indexed) = index.run(&run.id).await?;
        trials.extend(outcomes(&indexed.iter().map(TrialFile::from).collect::<Vec<_>>()));
        found.push(Finished { run: run.id, trials });
    }
    Ok(found)
}

fn outcomes(trials: &[TrialFile]) -> BTreeMap<String, String> {
    trials.iter().map(|trial| (trial.id.clone(), trial.outcome().name().to_owned())).collect()
}

/// After the next evaluation: runs closed, their results in the files, no sandbox.
async fn check(context: &Context, killed: Vec<Finished>) -> anyhow::Result<usize> {
    let index = context.state.index().await?;
    let open = index.unfinished().await?;
    ensure!(open.is_empty(), "{} runs were left open", open.len());
    let mut kept = 0;
    for Finished { run, trials } in killed {
        let stored = context.state.files()?.run(run.as_str()).await?;
        ensure!(stored.complete && stored.unreadable.is_empty(), "run {run} is damaged");
        let (record, indexed) = index.run(&run).await?;
        let indexed: Vec<_> = indexed.iter().map(TrialFile::from).collect();
        ensure!(
            indexed.len() == record.total_trials,
            "run {run} says not of all what became of it"
        );
        for results in [outcomes(&stored.summary.results), outcomes(&indexed)] {
            for (trial, outcome) in &trials {
                ensure!(results.get(trial) == Some(outcome), "run {run} lost trial {trial}");
            }
        }
        ensure!(index.open_attempts(&run).await?.is_empty(), "run {run} has open attempts");
        kept += trials.len();
    }
    let sandboxes = crate::cmd::local::running_sandboxes(context).await?;
    ensure!(sandboxes == 0, "{sandboxes} sandboxes were left running");
    Ok(kept)
}
