//! `results`: what was kept.

use eval_types::Outcome;
use results_store::{
    RunFiles, RunRow, StoredRun,
    format::{SummaryFile, TrialFile},
};

use crate::{
    backend,
    context::Context,
    exit::{Exit, UsageError},
    table::{render, seconds, short},
};

/// List runs, newest first, or show one
///
/// From this machine's index; what it does not know is looked for on the volume goat-results of the
/// target, where runs of other machines and of older versions lie too.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask results
  cargo xtask results 20261124_101500_k3fz --full
  cargo xtask results --volume --target modal")]
pub(crate) struct Args {
    /// Run to show
    run: Option<String>,
    /// Show prompts, outputs and diagnostics whole
    #[arg(long)]
    full: bool,
    /// Read the target's volume instead of this machine's index
    #[arg(long)]
    volume: bool,
    /// Runs to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match &args.run {
        None if args.volume => list_volume(&args, context).await,
        None => list(&args, context).await,
        Some(run) => show(run, &args, context).await,
    }
}

async fn list(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let rows = context.state.index().await?.runs(args.limit).await?;
    context.printer.json(&rows)?;
    if rows.is_empty() {
        context.printer.text(
            "no runs yet; the first: cargo xtask eval --target local --batch \
             fixtures/benchmarks/smoke.json",
        );
    } else {
        context.printer.text(&list_text(&rows));
    }
    Ok(Exit::Ok)
}

fn list_text(rows: &[RunRow]) -> String {
    let rows: Vec<_> = rows.iter().map(row).collect();
    render(&["run", "outcomes", "time", "model", "answered", "target", "tasks from"], &rows)
}

fn row(row: &RunRow) -> Vec<String> {
    let run = &row.run;
    let done: usize = row.outcomes.values().sum();
    let mut outcomes = counts(row.outcomes.iter());
    if done < run.total_trials {
        let state = if run.finished_at.is_some() { "ended early" } else { "not ended" };
        outcomes = format!("{outcomes} ({state}: {done} of {})", run.total_trials);
    }
    vec![
        run.id.to_string(),
        outcomes.trim().to_owned(),
        run.elapsed_s().map(seconds).unwrap_or_default(),
        run.model.clone(),
        run.model_source.to_string(),
        run.target.clone(),
        run.benchmark.clone().unwrap_or_else(|| "--prompt".to_owned()),
    ]
}

/// `4 passed, 1 failed`, in the order of outcomes.
fn counts<'c>(counts: impl Iterator<Item = (&'c String, &'c usize)>) -> String {
    let position = |name: &str| Outcome::ALL.iter().position(|outcome| outcome.name() == name);
    let mut counts: Vec<_> = counts.collect();
    counts.sort_by_key(|(name, _)| position(name));
    let counts = counts.iter().map(|(name, count)| format!("{count} {}", name.replace('_', " ")));
    counts.collect::<Vec<_>>().join(", ")
}

async fn list_volume(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    context.announce_target();
    let Some(files) = volume_files(context).await? else {
        context.printer.json(&[(); 0])?;
        context.printer.text("the volume goat-results holds no run yet");
        return Ok(Exit::Ok);
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut summaries = Vec::new();
    for run in files.runs().await?.into_iter().take(limit) {
        match files.run(&run).await {
            Ok(stored) => summaries.push(stored.summary),
            Err(error) => context.printer.warn(&format!("run {run}: {error}")),
        }
    }
    context.printer.json(&summaries)?;
    let rows: Vec<_> = summaries.iter().map(volume_row).collect();
    context.printer.text(&render(&["run", "outcomes", "time", "model", "answered", "mode"], &rows));
    Ok(Exit::Ok)
}

fn volume_row(summary: &SummaryFile) -> Vec<String> {
    vec![
        summary.run_id.clone(),
        counts(summary.tally().iter()),
        seconds(summary.total_elapsed_s),
        summary.model.clone(),
        summary.model_source.map(|source| source.to_string()).unwrap_or_default(),
        summary.mode.clone(),
    ]
}

async fn show(run: &str, args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let stored = find(run, args.volume, context).await?;
    context.printer.json(&stored.summary)?;
    context.printer.text(&run_text(&stored, args.full));
    if let Some(path) = context.state.files_of(run).filter(|path| path.is_dir()) {
        let shown = path.display();
        context.printer.text(&format!("\ntranscripts  {shown}/<task>-<variant>/transcript.jsonl"));
    }
    for error in &stored.unreadable {
        context.printer.warn(&sandbox_runner::chain(error));
    }
    Ok(Exit::Ok)
}

/// The run on this machine, else, or if only that is asked for, on the volume.
pub(crate) async fn find(run: &str, volume: bool, context: &Context) -> anyhow::Result<StoredRun> {
    // The name becomes a path.
    let id: eval_types::RunId = run.parse().map_err(|error| UsageError(format!("{error}")))?;
    let local: RunFiles = context.state.files()?;
    if !volume {
        match local.run(id.as_str()).await {
            Err(error) if error.is_not_found() => {}
            found => return Ok(found?),
        }
        // A run that goes on, or was killed before its first result, is in the index alone.
        if let Ok((run, trials)) = context.state.index().await?.run(&id).await {
            let summary = SummaryFile::new(&run, &trials);
            return Ok(StoredRun { summary, complete: false, unreadable: Vec::new() });
        }
    }
    let none = || UsageError(format!("no run `{id}`; `cargo xtask results` lists those there are"));
    context.announce_target();
    let volume = volume_files(context).await?.ok_or_else(none)?;
    match volume.run(id.as_str()).await {
        Err(error) if error.is_not_found() => Err(none().into()),
        found => Ok(found?),
    }
}

/// The volume of results; none where no run has made it yet.
async fn volume_files(context: &Context) -> anyhow::Result<Option<RunFiles>> {
    match backend::volume_files(context).await {
        Err(error) if is_not_found(&error) => Ok(None),
        files => files.map(Some),
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<modal_client::Error>().is_some_and(modal_client::Error::is_not_found)
}

fn run_text(stored: &StoredRun, full: bool) -> String {
    let summary = &stored.summary;
    let mut text = format!("run {}", summary.run_id);
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("\n{name:10} {value}"));
        }
    };
    add("model", &summary.model);
    let source = summary.model_source.map(|source| source.to_string()).unwrap_or_default();
    add("answered", &format!("{source} {}", summary.answered_by.as_deref().unwrap_or_default()));
    add("mode", &summary.mode);
    add("target", summary.target.as_deref().unwrap_or_default());
    add("tasks from", summary.benchmark.as_deref().unwrap_or_default());
    add("outcomes", &counts(summary.tally().iter()));
    add("time", &seconds(summary.total_elapsed_s));
    for line in &summary.substitutions {
        add("instead", line);
    }
    add("ended", summary.error.as_deref().unwrap_or_default());
    if !stored.complete {
        add("note", "the run did not end, or its summary was lost");
    }
    for trial in &summary.results {
        text.push_str("\n\n");
        text.push_str(&trial_text(trial, full));
    }
    text
}

fn trial_text(trial: &TrialFile, full: bool) -> String {
    let cut = |text: &str, longest: usize| {
        if full { text.to_owned() } else { short(text, longest) }
    };
    let (id, variant, outcome) = (&trial.id, trial.variant(), trial.outcome());
    let mut text = format!("{id} ({variant}): {outcome} after {}", seconds(trial.elapsed_s));
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("\n  {name:8} {value}"));
        }
    };
    add("reason", trial.reason.as_deref().unwrap_or_default());
    add("used", &used(trial));
    add("prompt", &cut(&trial.prompt, 100));
    add("output", &cut(&trial.output, 400));
    add("stderr", &cut(&trial.stderr, 200));
    if let Some(check) = &trial.verification {
        let verdict = eval_types::Outcome::from(check.verdict);
        add("check", &format!("{verdict}: {}", cut(&check.check, 200)));
        add("", &cut(&check.output, 200));
    }
    if trial.attempts.len() > 1 {
        let ends = trial.attempts.iter().map(|attempt| attempt.outcome.to_string());
        add("attempts", &ends.collect::<Vec<_>>().join(", then "));
    }
    if full {
        let traces = trial.attempts.iter().filter_map(|attempt| attempt.trace_id.as_deref());
        add("traces", &traces.collect::<Vec<_>>().join(", then "));
    }
    text
}

/// `2 turns, 1121 tokens, exit code 0`, as far as it is known.
fn used(trial: &TrialFile) -> String {
    let turns = trial.turns.map(|turns| format!("{turns} turns"));
    let tokens = trial.usage.map(|usage| format!("{} tokens", usage.total()));
    let code = (trial.exit_code >= 0).then(|| format!("exit code {}", trial.exit_code));
    [turns, tokens, code].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(case: &str) -> SummaryFile {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/results-store/fixtures");
        let bytes = std::fs::read(format!("{path}/{case}/summary.json")).unwrap();
        SummaryFile::parse(case, &bytes).unwrap()
    }

    #[test]
    fn a_run_of_an_older_version_reads_well() {
        let summary = summary("last-scripts");
        let stored = StoredRun { summary, complete: true, unreadable: Vec::new() };
        insta::assert_snapshot!(run_text(&stored, false));
    }

    #[test]
    fn runs_of_the_volume_are_a_table() {
        let rows = ["oldest", "before-mcp", "last-scripts"].map(|case| volume_row(&summary(case)));
        insta::assert_snapshot!(render(
            &["run", "outcomes", "time", "model", "answered", "mode"],
            &rows
        ));
    }
}
