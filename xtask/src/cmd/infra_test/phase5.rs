//! Phase 5: one evaluation, and what is left of it.

use std::{
    future::ready,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use eval_types::{Run, RunId, Trial};
use goat_services::app::LITELLM;
use langfuse_client::TraceId;

use super::{Args, check::CheckId, report::Report, within};
use crate::{
    backend::{self, Connection},
    cmd::{
        eval, results,
        traces::{find, view::TraceRow},
    },
    context::Context,
    exit::Exit,
    reach::Services,
    services,
};

/// Between two looks for a trace.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) async fn run(args: &Args, context: &Context, report: &mut Report<'_>) {
    let mut run = args.run.clone();
    let is_right = report.check(CheckId::Evaluation, evaluation(args, context, &mut run)).await;
    let Some(run) = run else {
        for check in [CheckId::Results, CheckId::ThroughProxy, CheckId::TrialTrace] {
            report.needs(check, CheckId::Evaluation);
        }
        return;
    };
    report.check(CheckId::Results, kept(context, &run)).await;
    if !is_right {
        report.needs(CheckId::ThroughProxy, CheckId::Evaluation);
        return report.needs(CheckId::TrialTrace, CheckId::Evaluation);
    }
    match proxy(context).await {
        Ok(None) => {
            let why = "no proxy is deployed: `cargo xtask deploy --wait`";
            report.skip(CheckId::ThroughProxy, why.to_owned());
            report.skip(CheckId::TrialTrace, why.to_owned());
        }
        Ok(Some(url)) => {
            let passed = report.check(CheckId::ThroughProxy, through(context, &run, &url)).await;
            match passed {
                true => drop(report.check(CheckId::TrialTrace, traced(args, context, &run)).await),
                false => report.needs(CheckId::TrialTrace, CheckId::ThroughProxy),
            }
        }
        Err(error) => {
            report.check(CheckId::ThroughProxy, ready(Err(error))).await;
            report.needs(CheckId::TrialTrace, CheckId::ThroughProxy);
        }
    }
}

/// The answer must be there: that nothing crashed is not enough.
async fn evaluation(
    args: &Args,
    context: &Context,
    run: &mut Option<RunId>,
) -> anyhow::Result<String> {
    if let Some(run) = run {
        let (_, trial) = stored(context, run).await?;
        ensure!(trial.outcome.is_success(), "run {run}: {}", trial.outcome);
        return right(&trial, run);
    }
    let eval = eval::Args {
        prompt: Some("What is 2 + 2? Answer with the number alone.".to_owned()),
        batch: None,
        parallel: 1,
        max_turns: 1,
        timeout: 120,
        allowance: Default::default(),
        model: args.model.clone(),
        sandbox: args.sandbox.clone(),
        extras: Default::default(),
        yes: args.yes,
        streams: false,
    };
    let done = eval::evaluate(&eval, context).await?;
    *run = Some(done.run.id.clone());
    let trial = done.report.trials.first().context("there was no trial")?;
    if eval::exit(&done.report) != Exit::Ok {
        bail!(
            "run {}: {} {}",
            done.run.id,
            trial.outcome,
            trial.reason.clone().unwrap_or_default()
        );
    }
    right(trial, &done.run.id)
}

fn right(trial: &Trial, run: &RunId) -> anyhow::Result<String> {
    ensure!(says_four(&trial.output), "run {run}: the answer was `{}`", trial.output);
    Ok(format!("`{}`, run {run}", trial.output))
}

/// Whether the answer's only number is 4.
fn says_four(answer: &str) -> bool {
    let numbers = answer.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let mut numbers = numbers.map(|number| number.trim_matches('.')).filter(|it| !it.is_empty());
    numbers.next() == Some("4") && numbers.next().is_none()
}

/// As this machine's index has it.
async fn stored(context: &Context, run: &RunId) -> anyhow::Result<(Run, Trial)> {
    let (found, trials) = context.state.index().await?.run(run).await?;
    let trial = trials.into_iter().next();
    Ok((found, trial.with_context(|| format!("run {run} has no trial"))?))
}

async fn kept(context: &Context, run: &RunId) -> anyhow::Result<String> {
    let (_, trial) = stored(context, run).await?;
    let files = Connection::new(context, &context.environment).volume_files();
    let (trials, unreadable) = files.trials(run.as_str()).await?;
    if let Some(error) = unreadable.into_iter().next() {
        return Err(anyhow!(error).context("the volume has a file that can't be read"));
    }
    let name = trial.key.task.as_str();
    let same = trials.iter().find(|it| it.id == name);
    let same = same.with_context(|| format!("the volume has no trial `{name}` of run {run}"))?;
    ensure!(
        same.output == trial.output,
        "the volume says `{}`, the index `{}`",
        same.output,
        trial.output
    );
    ensure!(files.run(run.as_str()).await?.complete, "the volume has no summary of run {run}");
    Ok(format!("{} trial(s) of run {run}", trials.len()))
}

/// Where the deployed proxy is.
async fn proxy(context: &Context) -> anyhow::Result<Option<String>> {
    let (client, _) = backend::client(context).await?;
    let current = services::current(&client).await?;
    Ok(current.and_then(|current| current.url(LITELLM).map(str::to_owned)))
}

async fn through(context: &Context, run: &RunId, url: &str) -> anyhow::Result<String> {
    let (run, _) = stored(context, run).await?;
    let (by, source) = (&run.answered_by, run.model_source);
    ensure!(by.starts_with(url), "{by} answered, but the deployed proxy is {url}");
    Ok(format!("{by} ({source})"))
}

async fn traced(args: &Args, context: &Context, run: &RunId) -> anyhow::Result<String> {
    let services = Services::new(&args.services, context)?;
    let client = services.langfuse().await?;
    let (task, id) = link(context, run).await?;
    let (began, limit) = (Instant::now(), args.patience());
    let mut last = "it was not looked for".to_owned();
    while began.elapsed() < limit {
        let looking = find::whole(&client, &id);
        match within(limit.saturating_sub(began.elapsed()), looking).await {
            Ok(Some((trace, calls))) if calls.iter().any(|call| call.output_tokens > Some(0.0)) => {
                return is_of(&trace, run, &task, calls.len());
            }
            Ok(_) => last = format!("Langfuse has no whole trace {id}, which the record links to"),
            Err(error) => last = format!("{error:#}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("not within {} s: {last}", limit.as_secs())
}

/// The trial's task, and the trace that its record links to.
async fn link(context: &Context, run: &RunId) -> anyhow::Result<(String, TraceId)> {
    let stored = results::find(run.as_str(), false, context).await?;
    let trial = stored.summary.results.into_iter().next();
    let trial = trial.with_context(|| format!("run {run} has no trial"))?;
    let id = trial.attempts.last().and_then(|attempt| attempt.trace_id.as_deref());
    let id = id.with_context(|| format!("the record of run {run} links to no trace"))?;
    Ok((trial.id.to_string(), TraceId::new(id)))
}

/// Whether what the link leads to is the trial's own.
fn is_of(trace: &TraceRow, run: &RunId, task: &str, calls: usize) -> anyhow::Result<String> {
    let (session, name) = (trace.session.as_deref(), trace.name.as_deref());
    ensure!(
        session == Some(run.as_str()) && name == Some(task),
        "the record links to trace {}, which is of session `{}` and name `{}`",
        trace.id,
        session.unwrap_or_default(),
        name.unwrap_or_default()
    );
    Ok(format!("trace {}, {calls} call(s), of {run}/{task}", trace.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_only_holds_the_digit_is_wrong() {
        assert!(says_four("4") && says_four("It is 4.\n") && says_four("**4**"));
        assert!(!says_four("44") && !says_four("5, not 4") && !says_four("0.4") && !says_four(""));
    }
}
