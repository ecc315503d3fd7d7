//! RPCs about what functions and containers do and have done.

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{
    AutoscalerConfiguration, AutoscalerSettings, ContainerStopRequest, ContainerStopResponse,
    FunctionCallCallGraphInfo, FunctionCallGetInfoRequest, FunctionCallGetInfoResponse,
    FunctionCallInfo, FunctionCallListRequest, FunctionCallListResponse,
    FunctionGetCallGraphRequest, FunctionGetCallGraphResponse, FunctionGetCurrentStatsRequest,
    FunctionGetSchedulingParamsRequest, FunctionGetSchedulingParamsResponse, FunctionStats,
    FunctionUpdateSchedulingParamsRequest, FunctionUpdateSchedulingParamsResponse,
    InputCallGraphInfo, InputCategoryInfo, InputInfo, TaskListRequest, TaskListResponse, TaskStats,
};
use tonic::Status;

use super::{app_id, call_id, function_id};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::calls::{CallRecord, InputRecord};
use crate::function::definition::{self, FunctionSpec};
use crate::function::scaling::{Load, Scaling};
use crate::function::task::Stop;
use crate::ids::TaskId;
use crate::sandbox::{Ending, Filter};

/// Inputs of each kind that an answer shows.
const SHOWN: usize = 10;
/// Calls in a graph, at most.
const MAX_GRAPH: usize = 1_000;

pub(in crate::service) async fn function_get_current_stats(
    ctx: &Ctx,
    request: FunctionGetCurrentStatsRequest,
) -> Result<FunctionStats, Status> {
    let id = function_id(&request.function_id)?;
    ctx.functions.records.get(&id).await?;
    let pool = ctx.functions.find_pool(&id);
    let Load { queued, running, containers } =
        pool.as_ref().map(|it| it.load()).unwrap_or_default();
    let room = pool.map_or(0, |pool| pool.spec().scaling.max_inputs.saturating_mul(containers));
    Ok(FunctionStats {
        backlog: queued,
        num_total_tasks: containers,
        num_running_inputs: running,
        input_headroom: room.saturating_sub(running),
    })
}

/// Overrides a function's scaling until its next deployment.
pub(in crate::service) async fn function_update_scheduling_params(
    ctx: &Ctx,
    request: FunctionUpdateSchedulingParamsRequest,
) -> Result<FunctionUpdateSchedulingParamsResponse, Status> {
    let id = function_id(&request.function_id)?;
    let record = ctx.functions.records.get(&id).await?;
    let (mut settings, new) = (record.autoscaler, request.settings.unwrap_or_default());
    settings.min_containers = new.min_containers.or(settings.min_containers);
    settings.max_containers = new.max_containers.or(settings.max_containers);
    settings.buffer_containers = new.buffer_containers.or(settings.buffer_containers);
    settings.scaledown_window = new.scaledown_window.or(settings.scaledown_window);
    settings.scaleup_window = new.scaleup_window.or(settings.scaleup_window);
    settings.target_concurrency_float =
        new.target_concurrency_float.or(settings.target_concurrency_float);
    if let (Some(min), Some(max)) = (settings.min_containers, settings.max_containers)
        && min > max
        && max > 0
    {
        let text = format!("min_containers ({min}) is more than max_containers ({max})");
        return Err(Error::invalid(text).into());
    }
    ctx.functions.records.set_autoscaler(&id, &settings).await?;
    let spec = ctx.functions.spec(&id).await?;
    let current_settings = Some(settings_of(&spec, &spec.scaling));
    let kept_warm = spec.scaling.min > 0;
    match ctx.functions.find_pool(&id) {
        Some(pool) => pool.redefine(spec.into(), false),
        None if kept_warm => drop(ctx.functions.pool(ctx, &id).await?),
        None => {}
    }
    Ok(FunctionUpdateSchedulingParamsResponse { current_settings })
}

fn settings_of(spec: &FunctionSpec, scaling: &Scaling) -> AutoscalerSettings {
    if spec.is_server() { scaling.server_settings() } else { scaling.settings() }
}

pub(in crate::service) async fn function_get_scheduling_params(
    ctx: &Ctx,
    request: FunctionGetSchedulingParamsRequest,
) -> Result<FunctionGetSchedulingParamsResponse, Status> {
    let id = function_id(&request.function_id)?;
    let record = ctx.functions.records.get(&id).await?;
    let spec = ctx.functions.spec(&id).await?;
    let data = ctx.functions.records.definition(&spec.definition).await?;
    let own = Scaling::new(definition::first(&data)?, &Default::default());
    let configuration = AutoscalerConfiguration {
        settings: Some(settings_of(&spec, &spec.scaling)),
        static_settings: Some(settings_of(&spec, &own)),
        override_settings: Some(record.autoscaler),
        ..AutoscalerConfiguration::default()
    };
    Ok(FunctionGetSchedulingParamsResponse { autoscaler_configuration: Some(configuration) })
}

pub(in crate::service) async fn function_call_list(
    ctx: &Ctx,
    request: FunctionCallListRequest,
) -> Result<FunctionCallListResponse, Status> {
    let mut function_calls = Vec::new();
    for call in ctx.functions.calls.of_function(&function_id(&request.function_id)?).await? {
        function_calls.push(info(ctx, &call).await?);
    }
    Ok(FunctionCallListResponse { function_calls })
}

pub(in crate::service) async fn function_call_get_info(
    ctx: &Ctx,
    request: FunctionCallGetInfoRequest,
) -> Result<FunctionCallGetInfoResponse, Status> {
    let call = ctx.functions.calls.get(&call_id(&request.function_call_id)?).await?;
    Ok(FunctionCallGetInfoResponse { info: Some(info(ctx, &call).await?) })
}

async fn info(ctx: &Ctx, call: &CallRecord) -> Result<FunctionCallInfo> {
    let inputs = ctx.functions.calls.inputs(&call.call_id).await?;
    let category = |wanted: fn(GenericStatus) -> bool| {
        let matching: Vec<&InputRecord> = inputs.iter().filter(|it| wanted(it.status())).collect();
        Some(InputCategoryInfo {
            total: i32::try_from(matching.len()).unwrap_or(i32::MAX),
            latest: matching.iter().rev().take(SHOWN).map(|it| input_info(it)).collect(),
        })
    };
    use GenericStatus::{Success, Terminated, Timeout, Unspecified};
    Ok(FunctionCallInfo {
        function_call_id: call.call_id.clone(),
        created_at: call.created_at,
        scheduled_at: inputs
            .iter()
            .filter_map(|it| it.started_at)
            .reduce(f64::min)
            .unwrap_or_default(),
        pending_inputs: category(|status| status == Unspecified),
        succeeded_inputs: category(|status| status == Success),
        timeout_inputs: category(|status| status == Timeout),
        cancelled_inputs: category(|status| status == Terminated),
        failed_inputs: category(|status| {
            !matches!(status, Unspecified | Success | Timeout | Terminated)
        }),
        total_inputs: i32::try_from(inputs.len()).unwrap_or(i32::MAX),
        ..FunctionCallInfo::default()
    })
}

fn input_info(input: &InputRecord) -> InputInfo {
    InputInfo {
        input_id: input.input_id.clone(),
        idx: input.idx,
        task_id: input.task_id.clone(),
        started_at: input.started_at.unwrap_or_default(),
        finished_at: input.finished_at.unwrap_or_default(),
        ..InputInfo::default()
    }
}

/// The call that everything began with, and all that it led to.
pub(in crate::service) async fn function_get_call_graph(
    ctx: &Ctx,
    request: FunctionGetCallGraphRequest,
) -> Result<FunctionGetCallGraphResponse, Status> {
    let calls = &ctx.functions.calls;
    let mut root = calls.get(&call_id(&request.function_call_id)?).await?;
    for _ in 0..MAX_GRAPH {
        let Ok(parent) = calls.input(&root.parent_input_id).await else { break };
        root = calls.get(&call_id(&parent.call_id)?).await?;
    }
    let mut graph = FunctionGetCallGraphResponse::default();
    let mut open = vec![root];
    while let Some(call) = open.pop() {
        if graph.function_calls.len() >= MAX_GRAPH {
            graph.truncated = true;
            break;
        }
        for input in calls.inputs(&call.call_id).await? {
            open.extend(calls.children(&input.input_id).await?);
            graph.inputs.push(InputCallGraphInfo {
                status: input.status().into(),
                input_id: input.input_id,
                function_call_id: call.call_id.clone(),
                task_id: input.task_id,
            });
        }
        graph.function_calls.push(graph_call(ctx, call).await?);
    }
    Ok(graph)
}

async fn graph_call(ctx: &Ctx, call: CallRecord) -> Result<FunctionCallCallGraphInfo> {
    let record = ctx.functions.records.get(&function_id(&call.function_id)?).await?;
    let module_name = match ctx.functions.spec(&record.id).await {
        Ok(spec) => spec.function.module_name,
        Err(_) => String::new(),
    };
    Ok(FunctionCallCallGraphInfo {
        function_call_id: call.call_id,
        parent_input_id: call.parent_input_id,
        function_name: record.name,
        module_name,
    })
}

/// The containers that run, of sandboxes and of functions.
pub(in crate::service) async fn task_list(
    ctx: &Ctx,
    request: TaskListRequest,
) -> Result<TaskListResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let mut tasks = Vec::new();
    for task in ctx.functions.live_tasks() {
        let app = ctx.apps.get(&task.spec.app).await?;
        let wanted = if request.app_id.is_empty() {
            app.environment_id == environment.id
        } else {
            app.app_id == request.app_id
        };
        if wanted {
            tasks.push(TaskStats {
                task_id: task.id.to_string(),
                app_id: app.app_id,
                app_description: app.description,
                started_at: task.ready_at().unwrap_or_default(),
                enqueued_at: task.enqueued_at,
            });
        }
    }
    let filter = match request.app_id.as_str() {
        "" => Filter { environment_id: Some(environment.id), ..Filter::default() },
        id => Filter { app_id: Some(app_id(id)?.to_string()), ..Filter::default() },
    };
    for sandbox in ctx.sandboxes.records.list(&filter).await? {
        let app = ctx.apps.get(&app_id(&sandbox.app_id)?).await?;
        tasks.push(TaskStats {
            task_id: sandbox.task_id,
            app_id: sandbox.app_id,
            app_description: app.description,
            started_at: sandbox.started_at.unwrap_or_default(),
            enqueued_at: sandbox.created_at,
        });
    }
    Ok(TaskListResponse { tasks })
}

/// Ends a container: in order, or once it has finished what it works on. Unfinished inputs are begun
/// anew in another one.
pub(in crate::service) async fn container_stop(
    ctx: &Ctx,
    request: ContainerStopRequest,
) -> Result<ContainerStopResponse, Status> {
    let id = TaskId::parse(&request.task_id).map_err(Error::from)?;
    let Some((pool, task)) = ctx.functions.find_task(&id) else {
        if let Ok(sandbox) = ctx.sandboxes.of_task(&id) {
            sandbox.request_stop(Ending::terminated("its container was stopped"));
            return Ok(ContainerStopResponse {});
        }
        // One that has ended is stopped.
        ctx.functions.tasks.get(&id).await?;
        return Ok(ContainerStopResponse {});
    };
    task.request_stop(if request.graceful { Stop::Drain } else { Stop::Interrupt });
    pool.changed.notify_one();
    Ok(ContainerStopResponse {})
}
