//! Acts on what a pool plans: begins containers, ends them, and records what became of their inputs.

use std::sync::Arc;
use std::time::Duration;

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{GenericResult, generic_result};
use tokio::time::{Instant, sleep_until};

use super::container::{self, Ended};
use super::outcome;
use super::pool::{Plan, Pool};
use super::task::{Interruption, Stop, Task};
use crate::ctx::Ctx;
use crate::ids::InputId;

/// How long a program may take to give up an input before its container is ended.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Looks after a pool until it is over.
pub(super) fn spawn(ctx: &Ctx, pool: &Arc<Pool>) {
    tokio::spawn(keep(ctx.clone(), Arc::clone(pool)));
}

async fn keep(ctx: Ctx, pool: Arc<Pool>) {
    loop {
        let plan = pool.plan();
        if plan.over {
            break;
        }
        act(&ctx, &pool, &plan);
        let wake = async {
            match plan.wake_at {
                // Never in a tight loop, whatever the clock says.
                Some(at) => sleep_until(at.max(Instant::now() + Duration::from_millis(5))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pool.changed.notified() => {}
            () = wake => {}
        }
    }
    ctx.functions.forget(&pool);
}

fn act(ctx: &Ctx, pool: &Arc<Pool>, plan: &Plan) {
    for task in &plan.start {
        ctx.functions.enter(task, pool);
        tokio::spawn(run(ctx.clone(), Arc::clone(pool), Arc::clone(task)));
    }
    for task in &plan.late {
        let seconds = task.spec.startup_timeout().as_secs();
        let text =
            format!("the container did not come up within its startup timeout of {seconds}s");
        task.set_result(outcome::result(GenericStatus::InitFailure, text));
        task.request_stop(Stop::Kill);
    }
    for (task, input) in &plan.timed_out {
        if task.interrupt(input, Interruption::TimedOut) {
            tokio::spawn(end_if_deaf(Arc::clone(task), input.clone()));
        }
    }
}

/// A program that does not give up an input loses its container, and other inputs with it: they are
/// begun anew elsewhere.
pub(crate) async fn end_if_deaf(task: Arc<Task>, input: InputId) {
    tokio::time::sleep(GIVE_UP).await;
    if task.running().iter().any(|running| running.input.id == input) {
        task.request_stop(Stop::Kill);
    }
}

/// The life of one container.
async fn run(ctx: Ctx, pool: Arc<Pool>, task: Arc<Task>) {
    ctx.functions.tasks.begin(&task).await;
    let ended = container::run(&ctx, &pool, &task).await;
    let failed_start = !task.is_ready() && task.stopping() != Some(Stop::Drain);
    let result = task.result().unwrap_or_else(|| ended.result());
    let hopeless = failed_start && task.result().is_some_and(|it| has_exception(&it));
    let (unfinished, failed) = pool.ended(&task, hopeless);
    for running in unfinished {
        if let Err(error) = outcome::lost(&ctx, &pool, &task, running, &ended.text()).await {
            tracing::warn!(%error, task = %task.id, "the end of an input is not recorded");
        }
    }
    outcome::give_up(&ctx, failed, &startup_failure(result.clone())).await;
    ctx.functions.leave(&task);
    ctx.functions.tasks.end(&task, &result).await;
    ctx.logs.finish_task(&task.id).await;
    if let Ended::NotStarted(error) = &ended {
        tracing::warn!(%error, task = %task.id, function = %pool.function, "a container was not made");
    }
    tracing::info!(task = %task.id, function = %pool.function, how = %ended.text(), "container ended");
}

fn has_exception(result: &GenericResult) -> bool {
    matches!(result.data_oneof, Some(generic_result::DataOneof::Data(_)))
        && result.status() == GenericStatus::Failure
}

/// What inputs end with whose containers never came up.
fn startup_failure(result: GenericResult) -> GenericResult {
    match result.status() {
        GenericStatus::Success | GenericStatus::Terminated | GenericStatus::Unspecified => {
            outcome::result(GenericStatus::Failure, "the container ended before it took an input")
        }
        _ => result,
    }
}
