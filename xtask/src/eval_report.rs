//! What is printed when a run is over.

use eval_types::{ModelSource, Outcome, Run, TokenUsage, Trial};
use results_store::format::SummaryFile;
use sandbox_runner::Report;

use crate::{
    cmd::eval::Done,
    context::Context,
    table::{render, seconds},
};

/// Prints a run that is over, and what went wrong beside it.
pub(crate) fn show(context: &Context, done: &Done) -> anyhow::Result<()> {
    let Done { run, report } = done;
    context.printer.json(&SummaryFile::new(run, &report.trials))?;
    let text = summary(run, report);
    // The answer of a single prompt is the result; how it went is not.
    if run.benchmark.is_none() {
        context.printer.note(&text)
    } else {
        context.printer.text(&text)
    };
    if run.model_source == ModelSource::Replay && has_model_error(report) {
        context.printer.warn(UNRECORDED);
    }
    for failure in &report.failures {
        context.printer.warn(&sandbox_runner::chain(&**failure));
    }
    for trial in &report.trials {
        for attempt in &trial.attempts {
            if let Some(error) = &attempt.cleanup_error {
                context.printer.warn(error);
            }
        }
    }
    Ok(())
}

/// What to do about a prompt that no recording answers.
const UNRECORDED: &str = "without a model only recorded prompts have answers, as those of \
     fixtures/benchmarks/smoke.json; for any other give --api-url URL, with the key in OPENAI_API_KEY";

fn has_model_error(report: &Report) -> bool {
    report.trials.iter().any(|trial| trial.outcome == Outcome::ModelError)
}

/// The table at the end of a run.
fn summary(run: &Run, report: &Report) -> String {
    let rows: Vec<_> = report.trials.iter().map(row).collect();
    let table = render(&["task", "outcome", "time", "turns", "tokens"], &rows);
    let mut usage = TokenUsage::default();
    for trial in &report.trials {
        usage.add(&trial.usage.unwrap_or_default());
    }
    let (elapsed, tokens) = (seconds(report.elapsed.as_secs_f64()), usage.total());
    let (id, model, source, by) = (&run.id, &run.model, run.model_source, &run.answered_by);
    format!(
        "\n{table}\n\n{} in {elapsed}, {tokens} tokens\n\
         model {model} ({source}: {by}), target {}\n\
         run {id}: cargo xtask results {id}",
        tally(&report.trials),
        run.target,
    )
}

fn row(trial: &Trial) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    vec![
        trial.key.task.to_string(),
        trial.outcome.to_string(),
        seconds(trial.total_s),
        number(trial.turns.map(u64::from)),
        number(trial.usage.map(|usage| usage.total())),
    ]
}

/// `5 trials: 4 passed, 1 failed`.
fn tally(trials: &[Trial]) -> String {
    let counts = Outcome::ALL.iter().filter_map(|outcome| {
        let same = |trial: &&Trial| trial.outcome.name() == outcome.name();
        let count = trials.iter().filter(same).count();
        (count > 0).then(|| format!("{count} {}", outcome.name().replace('_', " ")))
    });
    let counts = counts.collect::<Vec<_>>().join(", ");
    let trials =
        if trials.len() == 1 { "1 trial".to_owned() } else { format!("{} trials", trials.len()) };
    format!("{trials}: {counts}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use results_store::format::TrialFile;

    use super::*;

    fn trial(id: &str, outcome: Outcome, usage: Option<TokenUsage>) -> Trial {
        Trial {
            key: eval_types::TrialKey::new(id.parse().unwrap(), Default::default()),
            prompt: String::new(),
            model: "gpt-5-nano".into(),
            model_source: eval_types::ModelSource::Replay,
            output: String::new(),
            stderr: String::new(),
            exit_code: Some(0),
            outcome,
            reason: None,
            verification: None,
            started_at: "2026-11-24T03:05:06Z".parse().unwrap(),
            elapsed_s: 1.0,
            total_s: 75.25,
            turns: usage.map(|_| 2),
            usage,
            cost_usd: None,
            attempts: vec![],
        }
    }

    #[test]
    fn the_end_of_a_run_reads_well() {
        let usage = TokenUsage { input: 900, cached: 0, output: 21 };
        let trials = vec![
            trial("math-simple", Outcome::Passed, Some(usage)),
            trial("essay", Outcome::Scored { score: 0.5 }, Some(usage)),
            trial("late", Outcome::TimedOut, None),
        ];
        assert_eq!(TrialFile::from(&trials[1]).score, Some(0.5));
        let run = Run {
            id: "20261124_030506_ab3d".parse().unwrap(),
            started_at: "2026-11-24T03:05:06Z".parse().unwrap(),
            finished_at: None,
            target: "local".into(),
            environment: "goat".into(),
            benchmark: None,
            model: "gpt-5-nano".into(),
            model_source: eval_types::ModelSource::Replay,
            answered_by: "recordings in fixtures/llm".into(),
            mode: "baseline".into(),
            skills_dir: None,
            mcp_config: None,
            image: "debian_slim".into(),
            network: "open".into(),
            allowance: Default::default(),
            agent_sha256: String::new(),
            total_tasks: 3,
            total_trials: 3,
            parallel: 4,
            substitutions: vec![],
            error: None,
        };
        let elapsed = Duration::from_millis(76_100);
        let report = Report { trials, cancelled: false, elapsed, failures: vec![] };
        insta::assert_snapshot!(summary(&run, &report));
    }
}
