//! RPCs that containers of functions call, each about itself.

use std::time::Duration;

use futures::StreamExt as _;
use modal_proto::client::data_chunk::DataOneof;
use modal_proto::client::function_call_get_data_request::CallInfo as GetCallInfo;
use modal_proto::client::function_call_put_data_request::CallInfo as PutCallInfo;
use modal_proto::client::{
    Asgi, CancelInputEvent, ContainerHeartbeatRequest, ContainerHeartbeatResponse,
    ContainerLogRequest, DataChunk, DataFormat, FunctionCallGetDataRequest,
    FunctionCallPutDataRequest, FunctionGetDynamicConcurrencyRequest,
    FunctionGetDynamicConcurrencyResponse, FunctionGetInputsItem, FunctionGetInputsRequest,
    FunctionGetInputsResponse, FunctionPutOutputsRequest, TaskCurrentInputsResponse,
    TaskResultRequest, TunnelStartRequest, TunnelStartResponse, TunnelStopRequest,
    TunnelStopResponse,
};
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tonic::Status;

use super::call_id;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::container::Identity;
use crate::function::outcome;
use crate::function::pool::Next;
use crate::ids::{BlobId, CallId};
use crate::logs::{LogLine, Source};
use crate::sandbox::PortSpec;
use crate::service::BoxStream;

/// How long a heartbeat is held, so that the container hears at once what to give up. Clients send
/// one every 15 seconds and give up after as many.
const HEARTBEAT_POLL: Duration = Duration::from_secs(13);

pub(in crate::service) async fn container_hello(
    _ctx: &Ctx,
    (): (),
    _identity: Identity,
) -> Result<(), Status> {
    Ok(())
}

/// Answers when there is an input to give up, or after a while.
pub(in crate::service) async fn container_heartbeat(
    _ctx: &Ctx,
    _request: ContainerHeartbeatRequest,
    Identity { task, .. }: Identity,
) -> Result<ContainerHeartbeatResponse, Status> {
    let until = tokio::time::Instant::now() + HEARTBEAT_POLL;
    loop {
        let rung = task.bell.notified();
        tokio::pin!(rung);
        rung.as_mut().enable();
        let inputs = task.take_cancelled();
        if !inputs.is_empty() {
            let input_ids = inputs.iter().map(ToString::to_string).collect();
            let event = CancelInputEvent { input_ids, ..CancelInputEvent::default() };
            return Ok(ContainerHeartbeatResponse { cancel_input_event: Some(event) });
        }
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep_until(until) => return Ok(ContainerHeartbeatResponse::default()),
        }
    }
}

/// Waits for inputs.
pub(in crate::service) async fn function_get_inputs(
    ctx: &Ctx,
    request: FunctionGetInputsRequest,
    Identity { pool, task }: Identity,
) -> Result<FunctionGetInputsResponse, Status> {
    let most = usize::try_from(request.batch_max_size).unwrap_or(1).max(1);
    let was_ready = task.is_ready();
    let linger = Duration::from_millis(request.batch_linger_ms);
    let next = pool.next(&task, most, linger).await;
    if !was_ready {
        pool.started();
    }
    let inputs = match next {
        Next::Nothing => Vec::new(),
        Next::End => vec![FunctionGetInputsItem { kill_switch: true, ..Default::default() }],
        Next::Inputs(inputs) => {
            let mut items = Vec::with_capacity(inputs.len());
            for input in inputs {
                if !input.is_web {
                    ctx.functions.calls.start(&input.id, &task.id).await?;
                }
                items.push(FunctionGetInputsItem {
                    input_id: input.id.to_string(),
                    input: Some(input.input.clone()),
                    function_call_id: input.call.to_string(),
                    function_call_invocation_type: input.invocation,
                    retry_count: input.attempt,
                    function_map_idx: Some(input.idx),
                    ..FunctionGetInputsItem::default()
                });
            }
            items
        }
    };
    Ok(FunctionGetInputsResponse { inputs, ..FunctionGetInputsResponse::default() })
}

pub(in crate::service) async fn function_put_outputs(
    ctx: &Ctx,
    request: FunctionPutOutputsRequest,
    Identity { pool, task }: Identity,
) -> Result<(), Status> {
    outcome::put_outputs(ctx, &pool, &task, request.outputs).await?;
    Ok(())
}

/// Messages for the program that answers a request of the web, until the container has enough.
pub(in crate::service) async fn function_call_get_data_in(
    ctx: &Ctx,
    request: FunctionCallGetDataRequest,
    identity: Identity,
) -> Result<BoxStream<DataChunk>, Status> {
    let Some(GetCallInfo::FunctionCallId(id)) = request.call_info else {
        return Err(Status::invalid_argument("name a function call"));
    };
    let id = own_call(&identity, &id)?;
    let exchange = ctx.functions.exchanges.find(&id);
    let chunks = futures::stream::unfold(exchange, |exchange| async {
        let exchange = exchange?;
        let chunk = exchange.next_chunk().await;
        chunk.map(|chunk| (Ok(chunk), Some(exchange)))
    });
    // An end would make the client ask again at once.
    Ok(chunks.chain(futures::stream::pending()).boxed())
}

/// What the program yields or answers.
pub(in crate::service) async fn function_call_put_data_out(
    ctx: &Ctx,
    request: FunctionCallPutDataRequest,
    identity: Identity,
) -> Result<(), Status> {
    let Some(PutCallInfo::FunctionCallId(id)) = request.call_info else {
        return Err(Status::invalid_argument("name a function call"));
    };
    let id = own_call(&identity, &id)?;
    let Some(exchange) = ctx.functions.exchanges.find(&id) else {
        ctx.functions.calls.get(&id).await?;
        ctx.functions.calls.add_chunks(&id, request.data_chunks).await?;
        return Ok(());
    };
    for chunk in request.data_chunks {
        if chunk.data_format() != DataFormat::Asgi {
            return Err(Status::invalid_argument("a web function answers with ASGI messages"));
        }
        let data = contents(ctx, chunk.data_oneof).await?;
        let message = Asgi::decode(data.as_slice());
        let message = message.map_err(|_| Status::invalid_argument("this is no ASGI message"))?;
        exchange.put(chunk.index, message).await;
    }
    Ok(())
}

/// The call, if the container works on it.
fn own_call(identity: &Identity, id: &str) -> Result<CallId, Status> {
    let id = call_id(id)?;
    let own = identity.task.running().iter().any(|running| running.input.call == id);
    if own {
        return Ok(id);
    }
    Err(Status::permission_denied(format!("this container does not work on function call `{id}`")))
}

async fn contents(ctx: &Ctx, data: Option<DataOneof>) -> Result<Vec<u8>> {
    match data {
        None => Ok(Vec::new()),
        Some(DataOneof::Data(data)) => Ok(data),
        Some(DataOneof::DataBlobId(id)) => {
            let hash = ctx.blobs.get(&BlobId::parse(&id)?).await?.hash()?;
            let path = ctx.cas.path_of(&hash);
            let mut data = Vec::new();
            let mut file = tokio::fs::File::from_std(ctx.cas.open(&hash)?);
            file.read_to_end(&mut data).await.map_err(Error::file("read", &path))?;
            Ok(data)
        }
    }
}

pub(in crate::service) async fn function_get_dynamic_concurrency(
    _ctx: &Ctx,
    _request: FunctionGetDynamicConcurrencyRequest,
    Identity { pool, .. }: Identity,
) -> Result<FunctionGetDynamicConcurrencyResponse, Status> {
    Ok(FunctionGetDynamicConcurrencyResponse { concurrency: pool.concurrency() })
}

/// The container says why it ends: its code could not be imported, or its set-up failed.
pub(in crate::service) async fn task_result(
    _ctx: &Ctx,
    request: TaskResultRequest,
    Identity { task, .. }: Identity,
) -> Result<(), Status> {
    task.set_result(request.result.unwrap_or_default());
    Ok(())
}

pub(in crate::service) async fn task_current_inputs(
    _ctx: &Ctx,
    (): (),
    Identity { task, .. }: Identity,
) -> Result<TaskCurrentInputsResponse, Status> {
    let input_ids = task.running().iter().map(|running| running.input.id.to_string()).collect();
    Ok(TaskCurrentInputsResponse { input_ids })
}

pub(in crate::service) async fn container_log(
    ctx: &Ctx,
    request: ContainerLogRequest,
    Identity { task, .. }: Identity,
) -> Result<(), Status> {
    for log in request.logs {
        let source = Source {
            app: task.spec.app.to_string(),
            task: task.id.to_string(),
            function: task.spec.base.to_string(),
            call: log.function_call_id.clone(),
            input: log.input_id.clone(),
            ..Source::default()
        };
        let at = if log.timestamp > 0.0 { log.timestamp } else { crate::clock::now() };
        let line = LogLine { from: log.file_descriptor(), data: log.data, at };
        ctx.logs.append(source, vec![line]).await;
    }
    Ok(())
}

/// Makes a port of the container reachable from this machine: `modal.forward`.
pub(in crate::service) async fn tunnel_start(
    ctx: &Ctx,
    request: TunnelStartRequest,
    Identity { task, .. }: Identity,
) -> Result<TunnelStartResponse, Status> {
    let tunnel_type = request.tunnel_type.unwrap_or_default();
    let port = PortSpec::parse(request.port, request.unencrypted, tunnel_type)?;
    let data = task.place()?.forward(ctx, port).await?;
    Ok(TunnelStartResponse {
        host: data.host,
        port: data.port,
        unencrypted_host: data.unencrypted_host,
        unencrypted_port: data.unencrypted_port,
    })
}

pub(in crate::service) async fn tunnel_stop(
    _ctx: &Ctx,
    request: TunnelStopRequest,
    Identity { task, .. }: Identity,
) -> Result<TunnelStopResponse, Status> {
    let exists = match u16::try_from(request.port) {
        Ok(port) => task.place()?.unforward(port).await,
        Err(_) => false,
    };
    Ok(TunnelStopResponse { exists })
}
