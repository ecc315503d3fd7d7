//! Cleans up after runs whose process was killed.

use eval_types::Run;
use jiff::Timestamp;
use results_store::Index;
use sandbox_runner::{SandboxBackend, backend::RUN_TAG};

use crate::context::Context;

/// Ends the sandboxes of runs that nobody works on any more and closes those runs. Trials that they
/// finished are kept. What can't be cleaned up is said and left for the next time.
pub(crate) async fn killed_runs(
    context: &Context,
    index: &Index,
    backend: &dyn SandboxBackend,
) -> anyhow::Result<()> {
    for run in index.unfinished().await? {
        if run.target != context.choice.target.name() || run.environment != context.environment {
            continue;
        }
        // Held by the process that works on the run, for as long as it lives.
        let Some(_lock) = context.state.lock_run(&run.id)? else { continue };
        if let Err(error) = close(context, index, backend, run.clone()).await {
            context.printer.warn(&format!("can't clean up after run {}: {error:#}", run.id));
            continue;
        }
        context.state.forget_lock(&run.id);
    }
    Ok(())
}

async fn close(
    context: &Context,
    index: &Index,
    backend: &dyn SandboxBackend,
    mut run: Run,
) -> anyhow::Result<()> {
    let open = index.open_attempts(&run.id).await?;
    let sandboxes = backend.end_tagged(RUN_TAG, run.id.as_str()).await?;
    for attempt in &open {
        let cancelled = eval_types::Outcome::Cancelled;
        index.attempt_ended(&run.id, &attempt.key, attempt.number, &cancelled).await?;
    }
    let (_, trials) = index.run(&run.id).await?;
    run.finished_at = Some(Timestamp::now());
    context.state.files()?.put_summary(&run, &trials).await?;
    index.finish(&run).await?;
    let (id, done, all) = (&run.id, trials.len(), run.total_trials);
    context.printer.note(&format!(
        "run {id} was killed: {sandboxes} sandboxes ended, {done} of {all} results kept"
    ));
    Ok(())
}
