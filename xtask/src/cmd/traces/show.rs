//! `traces show`: one trace, or those of a task of a run.

use anyhow::bail;
use langfuse_client::{Client, TraceId};
use results_store::format::TrialFile;
use serde_json::{Value, json};

use super::{find, view};
use crate::{
    cmd::results,
    context::Context,
    exit::{Exit, UsageError},
    reach::{ServiceArgs, Services},
};

/// Show a trace with its observations: tokens, cost, latency
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask traces show 0af7651916cd43dd8448eb211c80319c
  cargo xtask traces show 0af7651916cd43dd8448eb211c80319c --output json
  cargo xtask traces show 20261126_140000/math-simple

Exit codes: 1 there is no such trace, or one of a task's is missing")]
pub(super) struct Args {
    /// Its id, or RUN/TASK: the traces of all attempts at the task, as the run's record has them
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    services: ServiceArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if let Some((run, task)) = args.id.split_once('/') {
        let attempts = attempts(run, task, context).await?;
        let client = Services::new(&args.services, context)?.langfuse().await?;
        return of_task(&client, &attempts, context).await;
    }
    let client = Services::new(&args.services, context)?.langfuse().await?;
    let Some(found) = one(&client, &args.id, context).await? else {
        context.printer.json(&json!({ "trace": null }))?;
        return Ok(Exit::Failed);
    };
    context.printer.json(&found)?;
    Ok(Exit::Ok)
}

/// Prints a trace, and answers it for programs; none where it is missing.
async fn one(client: &Client, id: &str, context: &Context) -> anyhow::Result<Option<Value>> {
    let Some((trace, observations)) = find::whole(client, &TraceId::new(id)).await? else {
        context.printer.failure(&format!("there is no trace `{id}`"));
        return Ok(None);
    };
    context.printer.text(&view::traces(std::slice::from_ref(&trace)));
    if !trace.tags.is_empty() {
        context.printer.text(&format!("tags: {}", trace.tags.join(", ")));
    }
    context.printer.text(&format!("\n{}", view::observations(&observations)));
    Ok(Some(json!({ "trace": trace, "observations": observations })))
}

/// An attempt and its trace.
struct Attempt {
    variant: String,
    epoch: u32,
    number: u32,
    outcome: String,
    trace_id: String,
}

/// The attempts at a task that have a trace, in the order in which they were made.
async fn attempts(run: &str, task: &str, context: &Context) -> anyhow::Result<Vec<Attempt>> {
    let stored = results::find(run, false, context).await?;
    let trials: Vec<_> = stored.summary.results.iter().filter(|trial| trial.id == task).collect();
    if trials.is_empty() {
        let text = format!("run `{run}` has no task `{task}`: `cargo xtask results {run}`");
        bail!(UsageError(text));
    }
    let attempts: Vec<_> = trials.into_iter().flat_map(of_trial).collect();
    if attempts.is_empty() {
        bail!("run `{run}` has no trace of `{task}`: its calls did not go through a proxy");
    }
    Ok(attempts)
}

fn of_trial(trial: &TrialFile) -> impl Iterator<Item = Attempt> {
    trial.attempts.iter().filter_map(|attempt| {
        Some(Attempt {
            variant: trial.variant().to_string(),
            epoch: trial.epoch,
            number: attempt.number,
            outcome: attempt.outcome.to_string(),
            trace_id: attempt.trace_id.clone()?,
        })
    })
}

async fn of_task(client: &Client, attempts: &[Attempt], context: &Context) -> anyhow::Result<Exit> {
    let (mut all, mut is_missing) = (Vec::new(), false);
    for Attempt { variant, epoch, number, outcome, trace_id } in attempts {
        context.printer.text(&format!("\n{variant}, epoch {epoch}, attempt {number}: {outcome}"));
        let found = one(client, trace_id, context).await?;
        is_missing |= found.is_none();
        let mut entry = json!({
            "variant": variant,
            "epoch": epoch,
            "attempt": number,
            "outcome": outcome,
            "trace_id": trace_id,
        });
        if let (Some(Value::Object(found)), Some(entry)) = (found, entry.as_object_mut()) {
            entry.extend(found);
        }
        all.push(entry);
    }
    context.printer.json(&json!({ "traces": all }))?;
    Ok(if is_missing { Exit::Failed } else { Exit::Ok })
}
