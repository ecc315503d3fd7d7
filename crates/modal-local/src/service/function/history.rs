//! RPCs about what functions have done: inputs one by one, counts, percentiles.

use std::collections::HashMap;

use modal_proto::client::function_call_count_response::InputBucket;
use modal_proto::client::function_call_fetch_request::QueryOneof;
use modal_proto::client::generic_result::GenericStatus;

use modal_proto::client::{
    AppCallCounts, AppContainerCounts, AppFunctionCounts, AppFunctionStats, AppFunctionStatsGroup,
    AppGetTimeRangeStatsRequest, AppGetTimeRangeStatsResponse, AppSandboxCounts,
    AppServerStatsGroup, FunctionCallCountRequest, FunctionCallCountResponse,
    FunctionCallFetchRequest, FunctionCallFetchResponse, FunctionCallInputInfo,
    FunctionCallInputStatus, FunctionGetTimeRangeStatsRequest, FunctionGetTimeRangeStatsResponse,
    FunctionListVariantsRequest, FunctionListVariantsResponse, FunctionVariantInfo,
    StatsPercentile, StatsPercentileDistribution,
};
use prost_types::Timestamp;
use tonic::Status;

use super::{app_id, function_id};
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::history::{Ended, PastInput, PastTask, Stretch};
use crate::ids::{FunctionId, TaskId};

/// Names of metrics that Modal's command line puts into an order of its own.
const EXECUTION: &str = "Execution time (s)";
const LATENCY: &str = "End-to-end latency (s)";
pub(super) const STARTUP: &str = "Startup time (s)";
/// In hundredths of a per cent.
const PERCENTILES: [u32; 3] = [5_000, 9_000, 9_900];
/// What a tail is without a number.
const TAIL: u32 = 10;

pub(in crate::service) async fn function_call_fetch(
    ctx: &Ctx,
    request: FunctionCallFetchRequest,
) -> Result<FunctionCallFetchResponse, Status> {
    let functions = functions(ctx, &request.function_id, request.all_variants).await?;
    let inputs = match request.query_oneof {
        Some(QueryOneof::Range(range)) => {
            let stretch = stretch(functions, range.since, range.until)?;
            let mut inputs = ctx.functions.history.inputs(&stretch, None).await?;
            if range.limit > 0 {
                inputs.truncate(range.limit as usize);
            }
            inputs
        }
        Some(QueryOneof::Tail(tail)) => tail_of(ctx, functions, tail.count).await?,
        None => tail_of(ctx, functions, TAIL).await?,
    };
    Ok(FunctionCallFetchResponse { function_call_inputs: inputs.iter().map(describe).collect() })
}

async fn tail_of(ctx: &Ctx, functions: Vec<FunctionId>, count: u32) -> Result<Vec<PastInput>> {
    let stretch = Stretch { functions, since: 0.0, until: f64::MAX };
    ctx.functions.history.inputs(&stretch, Some(count)).await
}

pub(in crate::service) async fn function_call_count(
    ctx: &Ctx,
    request: FunctionCallCountRequest,
) -> Result<FunctionCallCountResponse, Status> {
    let functions = functions(ctx, &request.function_id, request.all_variants).await?;
    let stretch = stretch(functions, request.since, request.until)?;
    let bucket = f64::from(request.bucket_secs.max(1));
    let buckets = ctx.functions.history.counts(&stretch, bucket).await?;
    let bucket = |(number, count): (i64, i64)| InputBucket {
        bucket_start_at: Some(clock::timestamp(stretch.since + number as f64 * bucket)),
        count: count.unsigned_abs(),
    };
    Ok(FunctionCallCountResponse { buckets: buckets.into_iter().map(bucket).collect() })
}

pub(in crate::service) async fn function_get_time_range_stats(
    ctx: &Ctx,
    request: FunctionGetTimeRangeStatsRequest,
) -> Result<FunctionGetTimeRangeStatsResponse, Status> {
    let functions = functions(ctx, &request.function_id, request.rollup).await?;
    let stretch = stretch(functions, request.since, request.until)?;
    let mut inputs = ctx.functions.history.inputs(&stretch, None).await?;
    let tasks = tasks(ctx, &stretch).await?;
    if let Some(container) = request.container_id.filter(|id| !id.is_empty()) {
        inputs.retain(|input| input.task_id == container);
    }
    let base = function_id(&request.function_id)?;
    let variants = ctx.functions.history.variants(&base).await?.len();
    Ok(FunctionGetTimeRangeStatsResponse {
        since: request.since,
        until: request.until,
        input_success_count: count(&inputs, Ended::Success),
        input_failure_count: count(&inputs, Ended::Failure),
        input_timeout_count: count(&inputs, Ended::Timeout),
        input_running_at_end_count: inputs
            .iter()
            .filter(|it| it.started_at.is_some() && Ended::of(it.status) == Ended::No)
            .count() as u64,
        input_percentile_stats: percentiles([
            (EXECUTION, inputs.iter().filter_map(execution_time).collect()),
            (LATENCY, inputs.iter().filter_map(latency).collect()),
        ]),
        container_started_count: tasks.iter().filter(|it| it.started_at.is_some()).count() as u64,
        container_error_count: errors(&tasks),
        container_creating_at_end_count: tasks
            .iter()
            .filter(|it| it.started_at.is_none() && it.finished_at.is_none())
            .count() as u64,
        container_percentile_stats: percentiles([(
            STARTUP,
            tasks.iter().filter_map(|it| Some(it.started_at? - it.enqueued_at)).collect(),
        )]),
        variant_count: u32::try_from(variants).unwrap_or(u32::MAX),
        container_total_count: tasks.len() as u64,
    })
}

/// The functions of the app's current deployment, and its sandboxes.
pub(in crate::service) async fn app_get_time_range_stats(
    ctx: &Ctx,
    request: AppGetTimeRangeStatsRequest,
) -> Result<AppGetTimeRangeStatsResponse, Status> {
    let app = app_id(&request.app_id)?;
    let lifecycle = crate::service::app_lifecycle(ctx, &app).await?;
    let layout = ctx.functions.deployments.current(&app).await?;
    let layout = layout.map(|deployment| deployment.layout).unwrap_or_default();
    let mut by_name = HashMap::new();
    let mut all = Vec::new();
    for (name, id) in &layout.functions {
        let ids = functions(ctx, id, true).await?;
        let stretch = stretch(ids, request.since, request.until)?;
        let counts = counts(ctx, &stretch).await?;
        all.extend(stretch.functions);
        let stats = AppFunctionStats { object_id: id.clone(), counts: Some(counts) };
        by_name.insert(name.clone(), stats);
    }
    let total = counts(ctx, &stretch(all, request.since, request.until)?).await?;
    let live = ctx.sandboxes.running_in(&app) as u64;
    let span = (seconds(request.since)?, seconds(request.until)?);
    let began = ctx.sandboxes.records.count_of(&app, span).await?;
    Ok(AppGetTimeRangeStatsResponse {
        since: request.since,
        until: request.until,
        functions: Some(AppFunctionStatsGroup { total: Some(total), by_name }),
        servers: Some(AppServerStatsGroup::default()),
        sandboxes: Some(AppSandboxCounts {
            total: began,
            finished: began.saturating_sub(live),
            live,
        }),
        lifecycle: Some(lifecycle),
        ..AppGetTimeRangeStatsResponse::default()
    })
}

async fn counts(ctx: &Ctx, stretch: &Stretch) -> Result<AppFunctionCounts> {
    let inputs = ctx.functions.history.inputs(stretch, None).await?;
    let tasks = tasks(ctx, stretch).await?;
    let succeeded = count(&inputs, Ended::Success);
    let failed = count(&inputs, Ended::Failure) + count(&inputs, Ended::Timeout);
    Ok(AppFunctionCounts {
        calls: Some(AppCallCounts { total: succeeded + failed, succeeded, failed }),
        containers: Some(AppContainerCounts {
            container_errors: errors(&tasks),
            container_active_count: tasks.len() as u64,
        }),
    })
}

/// The start of a container that still runs is in no record.
pub(super) async fn tasks(ctx: &Ctx, stretch: &Stretch) -> Result<Vec<PastTask>> {
    let mut tasks = ctx.functions.history.tasks(stretch).await?;
    for task in tasks.iter_mut().filter(|task| task.finished_at.is_none()) {
        let live = ctx.functions.find_task(&TaskId::parse(&task.task_id)?);
        task.started_at = live.and_then(|(_, live)| live.ready_at());
    }
    Ok(tasks)
}

/// All in one answer.
pub(in crate::service) async fn function_list_variants(
    ctx: &Ctx,
    request: FunctionListVariantsRequest,
) -> Result<FunctionListVariantsResponse, Status> {
    let base = function_id(&request.function_id)?;
    ctx.functions.records.get(&base).await?;
    let mut infos = Vec::new();
    for id in ctx.functions.history.variants(&base).await? {
        let record = ctx.functions.records.get(&id).await?;
        infos.push(FunctionVariantInfo {
            function_id: id.to_string(),
            serialized_params: record.serialized_params,
            function_options: Some(record.options),
        });
    }
    if request.limit > 0 {
        infos.truncate(request.limit as usize);
    }
    Ok(FunctionListVariantsResponse { infos, ..FunctionListVariantsResponse::default() })
}

/// A function, with its variants if they count too.
pub(super) async fn functions(ctx: &Ctx, id: &str, with_variants: bool) -> Result<Vec<FunctionId>> {
    let base = function_id(id)?;
    ctx.functions.records.get(&base).await?;
    let mut functions = vec![base.clone()];
    if with_variants {
        functions.extend(ctx.functions.history.variants(&base).await?);
    }
    Ok(functions)
}

pub(super) fn stretch(
    functions: Vec<FunctionId>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Stretch> {
    let stretch = Stretch { functions, since: seconds(since)?, until: seconds(until)? };
    if stretch.since > stretch.until {
        return Err(Error::invalid("`since` must not be after `until`"));
    }
    Ok(stretch)
}

pub(super) fn seconds(at: Option<Timestamp>) -> Result<f64> {
    at.map(|at| clock::seconds(&at)).ok_or_else(|| Error::invalid("name a stretch of time"))
}

fn describe(input: &PastInput) -> FunctionCallInputInfo {
    FunctionCallInputInfo {
        enqueued_at: Some(clock::timestamp(input.created_at)),
        started_at: input.started_at.map(clock::timestamp),
        container_id: Some(input.task_id.clone()).filter(|id| !id.is_empty()),
        startup_time_seconds: startup_time(input),
        execution_time_seconds: execution_time(input),
        status: status(input).into(),
        function_call_id: input.call_id.clone(),
        ..FunctionCallInputInfo::default()
    }
}

fn status(input: &PastInput) -> FunctionCallInputStatus {
    use FunctionCallInputStatus as To;
    let Some(status) = input.status else {
        return if input.started_at.is_some() { To::Running } else { To::Pending };
    };
    match GenericStatus::try_from(status).unwrap_or_default() {
        GenericStatus::Unspecified => To::Unspecified,
        GenericStatus::Success => To::Success,
        GenericStatus::Timeout => To::Timeout,
        GenericStatus::Terminated => To::Terminated,
        GenericStatus::InitFailure => To::InitFailure,
        GenericStatus::InternalFailure => To::InternalFailure,
        GenericStatus::IdleTimeout => To::IdleTimeout,
        _ => To::Failure,
    }
}

/// Only of the input that its container was begun for.
fn startup_time(input: &PastInput) -> Option<f64> {
    let (begun, ready) = (input.enqueued_at?, input.ready_at?);
    (begun >= input.created_at).then_some(ready - begun)
}

fn execution_time(input: &PastInput) -> Option<f64> {
    Some(input.finished_at? - input.started_at?)
}

fn latency(input: &PastInput) -> Option<f64> {
    Some(input.finished_at? - input.created_at)
}

fn count(inputs: &[PastInput], ended: Ended) -> u64 {
    inputs.iter().filter(|input| Ended::of(input.status) == ended).count() as u64
}

pub(super) fn errors(tasks: &[PastTask]) -> u64 {
    let failed = |task: &&PastTask| Ended::of(task.status) == Ended::Failure;
    let stopped = |task: &&PastTask| task.status == Some(GenericStatus::Terminated.into());
    tasks.iter().filter(failed).filter(|task| !stopped(task)).count() as u64
}

pub(super) fn percentiles<const N: usize>(
    metrics: [(&str, Vec<f64>); N],
) -> HashMap<String, StatsPercentileDistribution> {
    let known = metrics.into_iter().filter(|(_, values)| !values.is_empty());
    known
        .map(|(name, mut values)| {
            values.sort_by(f64::total_cmp);
            let percentiles = PERCENTILES.map(|points| StatsPercentile {
                percentile_basis_points: points,
                value: nearest(&values, points),
            });
            let distribution = StatsPercentileDistribution {
                unit: "s".to_owned(),
                percentiles: percentiles.into(),
            };
            (name.to_owned(), distribution)
        })
        .collect()
}

/// The value that so many hundredths of a per cent of the sorted values do not exceed.
fn nearest(sorted: &[f64], basis_points: u32) -> f64 {
    let rank = (sorted.len() * basis_points as usize).div_ceil(10_000);
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!([5_000, 9_000, 9_900].map(|it| nearest(&values, it)), [5.0, 9.0, 10.0]);
        assert_eq!(nearest(&[7.0], 5_000), 7.0);
    }
}
