//! How attempts of inputs end: an output for the caller, or another attempt.

use std::sync::Arc;
use std::time::Duration;

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{FunctionGetOutputsItem, FunctionPutOutputsItem, GenericResult};

use super::calls::Input;
use super::pool::Pool;
use super::task::{Interruption, Running, Task};
use crate::clock;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::ids::InputId;

/// Containers that may be lost with the same input before it fails.
const MAX_LOST: u32 = 3;

/// A result without data.
pub(crate) fn result(status: GenericStatus, exception: impl Into<String>) -> GenericResult {
    GenericResult { status: status.into(), exception: exception.into(), ..Default::default() }
}

/// Takes the outputs of a container. Those of inputs it does not work on are ignored: they were
/// given to another, or have ended.
pub(crate) async fn put_outputs(
    ctx: &Ctx,
    pool: &Arc<Pool>,
    task: &Task,
    items: Vec<FunctionPutOutputsItem>,
) -> Result<()> {
    for item in items {
        let id = InputId::parse(&item.input_id)?;
        let running = task.running().into_iter().find(|running| running.input.id == id);
        let Some(running) = running else { continue };
        end(ctx, pool, task, &running, item).await?;
        task.release(&id);
    }
    pool.changed.notify_one();
    Ok(())
}

async fn end(
    ctx: &Ctx,
    pool: &Arc<Pool>,
    task: &Task,
    running: &Running,
    item: FunctionPutOutputsItem,
) -> Result<()> {
    let result = match running.ends {
        Interruption::TimedOut => timed_out(task),
        Interruption::Cancelled => cancelled(),
        Interruption::None => item.result.unwrap_or_default(),
    };
    let output = FunctionGetOutputsItem {
        data_format: item.data_format,
        input_started_at: item.input_started_at,
        output_created_at: item.output_created_at,
        ..output(&running.input, task.id.as_str(), result)
    };
    finish_or_retry(ctx, pool, &running.input, output).await
}

/// The end of an input that has taken too long, though its container said nothing about it.
pub(crate) async fn time_out(
    ctx: &Ctx,
    pool: &Arc<Pool>,
    task: &Task,
    running: &Running,
) -> Result<()> {
    let output = output(&running.input, task.id.as_str(), timed_out(task));
    finish_or_retry(ctx, pool, &running.input, output).await
}

/// A container is gone with this input. It is begun anew elsewhere, unless that happened too often.
pub(crate) async fn lost(
    ctx: &Ctx,
    pool: &Arc<Pool>,
    task: &Task,
    running: Running,
    why: &str,
) -> Result<()> {
    let input = &running.input;
    let result = match running.ends {
        Interruption::TimedOut => return time_out(ctx, pool, task, &running).await,
        Interruption::Cancelled => cancelled(),
        Interruption::None if input.lost + 1 < MAX_LOST && !input.is_web => {
            let again = Input { lost: input.lost + 1, ..Input::clone(input) };
            pool.requeue(Arc::new(again));
            return Ok(());
        }
        Interruption::None => result(GenericStatus::Failure, why),
    };
    finish(ctx, input, output(input, task.id.as_str(), result)).await
}

/// Ends inputs that no container will work on.
pub(crate) async fn give_up(ctx: &Ctx, inputs: Vec<Arc<Input>>, result: &GenericResult) {
    for input in inputs {
        let output = output(&input, "", result.clone());
        if let Err(error) = finish(ctx, &input, output).await {
            tracing::warn!(%error, input = %input.id, "the end of an input is not recorded");
        }
    }
}

/// What an input that was cancelled ends with.
pub(crate) fn cancelled() -> GenericResult {
    result(GenericStatus::Terminated, "the input was cancelled")
}

fn timed_out(task: &Task) -> GenericResult {
    let seconds = task.spec.timeout().as_secs();
    result(GenericStatus::Timeout, format!("the input hit its timeout of {seconds}s"))
}

fn output(input: &Input, task: &str, result: GenericResult) -> FunctionGetOutputsItem {
    FunctionGetOutputsItem {
        result: Some(result),
        idx: input.idx,
        input_id: input.id.to_string(),
        task_id: task.to_owned(),
        output_created_at: clock::now(),
        // Clients count the attempts that they asked for.
        retry_count: if input.retries_here { 0 } else { input.attempt },
        ..FunctionGetOutputsItem::default()
    }
}

async fn finish_or_retry(
    ctx: &Ctx,
    pool: &Arc<Pool>,
    input: &Arc<Input>,
    output: FunctionGetOutputsItem,
) -> Result<()> {
    let status = output.result.as_ref().map(GenericResult::status).unwrap_or_default();
    let may_retry = matches!(status, GenericStatus::Failure | GenericStatus::Timeout);
    let again = input.attempt + 1;
    let delay = pool.spec().retry_delay(again);
    match delay {
        Some(delay) if may_retry && input.retries_here && !input.is_web => {
            ctx.functions.calls.next_attempt(&input.id, again).await?;
            let input = Arc::new(Input { attempt: again, lost: 0, ..Input::clone(input) });
            tokio::spawn(later(ctx.clone(), Arc::clone(pool), input, delay));
            Ok(())
        }
        _ => finish(ctx, input, output).await,
    }
}

async fn later(ctx: Ctx, pool: Arc<Pool>, input: Arc<Input>, delay: Duration) {
    tokio::time::sleep(delay).await;
    if !pool.enqueue(Arc::clone(&input)) {
        give_up(&ctx, vec![input], &cancelled()).await;
    }
}

async fn finish(ctx: &Ctx, input: &Input, output: FunctionGetOutputsItem) -> Result<()> {
    if input.is_web {
        ctx.functions.exchanges.finish(&input.call, output.result.unwrap_or_default());
        return Ok(());
    }
    ctx.functions.calls.finish(input, &output).await.map(drop)
}
