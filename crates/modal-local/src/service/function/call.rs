//! RPCs that call functions.

use std::sync::Arc;

use modal_proto::client::{
    FunctionCallCancelRequest, FunctionCallInvocationType, FunctionFinishInputsRequest,
    FunctionMapRequest, FunctionMapResponse, FunctionPutInputsItem, FunctionPutInputsRequest,
    FunctionPutInputsResponse, FunctionPutInputsResponseItem, FunctionRetryInputsRequest,
    FunctionRetryInputsResponse,
};
use tonic::Status;

use super::{call_id, function_id};
use crate::caller::{Caller, ClientKind};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::calls::{CallRecord, Input, NewCall};
use crate::function::definition::FunctionSpec;
use crate::function::pool::Pool;
use crate::function::task::{Interruption, Stop};
use crate::function::{end_if_deaf, outcome};
use crate::ids::{CallId, FunctionId};

/// Inputs of a map that a client may have open, as on Modal.
const MAX_OUTSTANDING: u32 = 1_000;
/// Inputs of a function that may wait for a container. This and the next two: Modal's guide on scaling out
/// ("Function limits"), 2026-11-26.
const MAX_PENDING: u32 = 2_000;
/// Inputs that may wait or run.
const MAX_TOTAL: u32 = 25_000;
/// Inputs of `spawn` that may wait.
const MAX_PENDING_SPAWNED: u32 = 1_000_000;
/// Inputs in one request, at most.
const MAX_INPUTS: usize = 5_000;

/// Begins a call, with its inputs or before them.
pub(in crate::service) async fn function_map(
    ctx: &Ctx,
    request: FunctionMapRequest,
    caller: &Caller,
) -> Result<FunctionMapResponse, Status> {
    let id = function_id(&request.function_id)?;
    let pool = ctx.functions.pool(ctx, &id).await?;
    let spec = pool.spec();
    let client_retries = clients_retry(&spec, request.function_call_invocation_type(), caller);
    let call = NewCall {
        function: id,
        app: spec.app.clone(),
        kind: request.function_call_type(),
        invocation: request.function_call_invocation_type(),
        parent: request.parent_input_id,
        retries_here: !client_retries,
    };
    let inputs = contents(request.pipelined_inputs)?;
    check_backlog(&pool, inputs.len(), call.invocation)?;
    let answer = |call: &CallId, inputs: &[Input]| FunctionMapResponse {
        function_call_jwt: ctx.auth.issue_call_token(call),
        function_call_id: call.to_string(),
        pipelined_inputs: describe(ctx, inputs),
        retry_policy: spec.function.retry_policy,
        sync_client_retries_enabled: client_retries,
        max_inputs_outstanding: MAX_OUTSTANDING,
    };
    let (answer, inputs) = ctx.functions.calls.create(&call, inputs, answer).await?;
    submit(ctx, inputs).await?;
    Ok(answer)
}

/// Refuses inputs beyond what a function may have before it: the SDKs send those of maps again later.
fn check_backlog(pool: &Pool, more: usize, invocation: FunctionCallInvocationType) -> Result<()> {
    let load = pool.load();
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    let pending = load.queued.saturating_add(more);
    let all = pending.saturating_add(load.running);
    use FunctionCallInvocationType::{Async, AsyncLegacy};
    let limits = match invocation {
        Async | AsyncLegacy => (MAX_PENDING_SPAWNED, u32::MAX),
        _ => (MAX_PENDING, MAX_TOTAL),
    };
    if more > 0 && (pending > limits.0 || all > limits.1) {
        return Err(Error::Exhausted(format!(
            "the function has {} inputs that wait and {} that run; at most {} may wait{}",
            load.queued,
            load.running,
            limits.0,
            if limits.1 < u32::MAX { format!(", and {} in all", limits.1) } else { String::new() },
        )));
    }
    Ok(())
}

/// Whether the client asks for further attempts: Python's does while it waits for the result.
fn clients_retry(
    spec: &FunctionSpec,
    invocation: FunctionCallInvocationType,
    caller: &Caller,
) -> bool {
    let has_retries = spec.function.retry_policy.is_some_and(|policy| policy.retries > 0);
    has_retries
        && invocation == FunctionCallInvocationType::Sync
        && caller.kind == ClientKind::Python
}

pub(in crate::service) async fn function_put_inputs(
    ctx: &Ctx,
    request: FunctionPutInputsRequest,
) -> Result<FunctionPutInputsResponse, Status> {
    let call = open_call(ctx, &call_id(&request.function_call_id)?).await?;
    let pool = ctx.functions.pool(ctx, &function_id(&call.function_id)?).await?;
    let inputs = contents(request.inputs)?;
    check_backlog(&pool, inputs.len(), call.invocation())?;
    let answer = |inputs: &[Input]| FunctionPutInputsResponse { inputs: describe(ctx, inputs) };
    let (answer, inputs) = ctx.functions.calls.add_inputs(&call, inputs, answer).await?;
    submit(ctx, inputs).await?;
    Ok(answer)
}

/// Nothing waits for the number: inputs are worked on as they come.
pub(in crate::service) async fn function_finish_inputs(
    ctx: &Ctx,
    request: FunctionFinishInputsRequest,
) -> Result<(), Status> {
    ctx.functions.calls.get(&call_id(&request.function_call_id)?).await?;
    Ok(())
}

/// Begins inputs anew that have failed.
pub(in crate::service) async fn function_retry_inputs(
    ctx: &Ctx,
    request: FunctionRetryInputsRequest,
) -> Result<FunctionRetryInputsResponse, Status> {
    let mut input_jwts = Vec::with_capacity(request.inputs.len());
    let mut again = Vec::with_capacity(request.inputs.len());
    for item in request.inputs {
        let id = ctx.auth.verify_input_token(&item.input_jwt)?;
        let record = ctx.functions.calls.input(id.as_str()).await?;
        open_call(ctx, &call_id(&record.call_id)?).await?;
        let is_pending = record.status.is_none();
        let was_asked_for = is_pending && record.attempt >= i64::from(item.retry_count.max(1));
        if was_asked_for || again.iter().any(|input: &Input| input.id == id) {
            // Asked for before, by a client that did not hear of it.
            input_jwts.push(item.input_jwt);
            continue;
        }
        let attempt = u32::try_from(record.attempt).unwrap_or(0).saturating_add(1);
        let attempt = attempt.max(item.retry_count);
        let contents = item.input.unwrap_or_default();
        let input = ctx.functions.calls.again(&record, contents, attempt).await?;
        input_jwts.push(ctx.auth.issue_input_token(&input.id, input.idx));
        again.push(input);
    }
    let answer = FunctionRetryInputsResponse { input_jwts };
    ctx.functions.calls.restart(&again, &answer).await?;
    submit(ctx, again).await?;
    Ok(answer)
}

/// Ends the inputs of a call, and the calls that they made.
pub(in crate::service) async fn function_call_cancel(
    ctx: &Ctx,
    request: FunctionCallCancelRequest,
) -> Result<(), Status> {
    let mut open = vec![call_id(&request.function_call_id)?];
    while let Some(id) = open.pop() {
        let call = ctx.functions.calls.get(&id).await?;
        if !ctx.functions.calls.cancel(&id).await? {
            continue;
        }
        for input in ctx.functions.calls.inputs(id.as_str()).await? {
            for child in ctx.functions.calls.children(&input.input_id).await? {
                open.push(call_id(&child.call_id)?);
            }
        }
        cancel_inputs(ctx, &id, &function_id(&call.function_id)?, request.terminate_containers)
            .await;
    }
    Ok(())
}

async fn cancel_inputs(ctx: &Ctx, call: &CallId, function: &FunctionId, terminate: bool) {
    let Some(pool) = ctx.functions.find_pool(function) else { return };
    outcome::give_up(ctx, pool.withdraw(call), &outcome::cancelled()).await;
    for task in pool.tasks() {
        let mine = task.running().into_iter().filter(|running| running.input.call == *call);
        for running in mine {
            task.interrupt(&running.input.id, Interruption::Cancelled);
            if terminate {
                task.request_stop(Stop::Kill);
            } else {
                tokio::spawn(end_if_deaf(Arc::clone(&task), running.input.id.clone()));
            }
        }
    }
}

async fn open_call(ctx: &Ctx, id: &CallId) -> Result<CallRecord> {
    let call = ctx.functions.calls.get(id).await?;
    match call.cancelled_at {
        Some(_) => Err(Error::Precondition(format!("function call `{id}` was cancelled"))),
        None => Ok(call),
    }
}

fn contents(
    items: Vec<FunctionPutInputsItem>,
) -> Result<Vec<(i32, modal_proto::client::FunctionInput)>> {
    if items.len() > MAX_INPUTS {
        return Err(Error::invalid(format!("more than {MAX_INPUTS} inputs in one request")));
    }
    let content = |item: FunctionPutInputsItem| (item.idx, item.input.unwrap_or_default());
    Ok(items.into_iter().map(content).collect())
}

fn describe(ctx: &Ctx, inputs: &[Input]) -> Vec<FunctionPutInputsResponseItem> {
    let item = |input: &Input| FunctionPutInputsResponseItem {
        idx: input.idx,
        input_id: input.id.to_string(),
        input_jwt: ctx.auth.issue_input_token(&input.id, input.idx),
    };
    inputs.iter().map(item).collect()
}

async fn submit(ctx: &Ctx, inputs: Vec<Input>) -> Result<()> {
    for input in inputs {
        ctx.functions.submit(ctx, Arc::new(input)).await?;
    }
    Ok(())
}
