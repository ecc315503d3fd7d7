//! RPCs by which callers get their results.

use futures::StreamExt as _;
use modal_proto::client::function_call_get_data_request::CallInfo;
use modal_proto::client::{
    DataChunk, FunctionCallFromIdRequest, FunctionCallFromIdResponse, FunctionCallGetDataRequest,
    FunctionCallHandleMetadata, FunctionGetOutputsItem, FunctionGetOutputsRequest,
    FunctionGetOutputsResponse,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::call_id;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::calls::{OutputRange, poll_time};
use crate::ids::CallId;
use crate::service::BoxStream;

/// The entry before the first.
const START: &str = "0-0";
/// How long a stream of a generator is held; clients ask again.
const STREAM_TIME: f32 = 55.0;

/// Waits for outputs. While none is there, `num_unfinished_inputs` says whether one can come.
pub(in crate::service) async fn function_get_outputs(
    ctx: &Ctx,
    request: FunctionGetOutputsRequest,
) -> Result<FunctionGetOutputsResponse, Status> {
    let id = call_id(&request.function_call_id)?;
    ctx.functions.calls.get(&id).await?;
    let range = range(&request)?;
    let until = Instant::now() + poll_time(request.timeout);
    let mut watch = ctx.functions.calls.watch(&id);
    loop {
        watch.mark_unchanged();
        let outputs = ctx.functions.calls.outputs(&id, range).await?;
        if !outputs.is_empty() || Instant::now() >= until {
            return Ok(answer(ctx, &id, outputs, request.last_entry_id).await?);
        }
        tokio::select! {
            _ = watch.changed() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

fn range(request: &FunctionGetOutputsRequest) -> Result<OutputRange> {
    let entry = match request.last_entry_id.as_str() {
        "" => START,
        entry => entry,
    };
    let after = entry.split('-').next().and_then(|number| number.parse().ok());
    let after = after.ok_or_else(|| Error::invalid(format!("{entry:?} is no entry of outputs")))?;
    let indices = match (request.start_idx, request.end_idx) {
        (None, None) => None,
        (first, last) => Some((first.unwrap_or(0), last.unwrap_or(i32::MAX))),
    };
    Ok(OutputRange { after, indices, limit: request.max_values })
}

async fn answer(
    ctx: &Ctx,
    id: &CallId,
    outputs: Vec<(i64, FunctionGetOutputsItem)>,
    last_entry_id: String,
) -> Result<FunctionGetOutputsResponse> {
    let num_unfinished_inputs = ctx.functions.calls.unfinished(id).await?;
    let last = outputs.last().map(|(entry, _)| format!("{entry}-0"));
    let outputs: Vec<_> = outputs.into_iter().map(|(_, item)| item).collect();
    Ok(FunctionGetOutputsResponse {
        idxs: outputs.iter().map(|item| item.idx).collect(),
        outputs,
        last_entry_id: last.unwrap_or(last_entry_id),
        num_unfinished_inputs,
    })
}

/// What a generator yields, from an index on.
pub(in crate::service) async fn function_call_get_data_out(
    ctx: &Ctx,
    request: FunctionCallGetDataRequest,
) -> Result<BoxStream<DataChunk>, Status> {
    let Some(CallInfo::FunctionCallId(id)) = request.call_info else {
        return Err(Status::invalid_argument("name a function call"));
    };
    let id = call_id(&id)?;
    ctx.functions.calls.get(&id).await?;
    let (sender, receiver) = mpsc::channel(4);
    let ctx = ctx.clone();
    tokio::spawn(async move {
        if let Err(error) = yielded(&ctx, &id, request.last_index, &sender).await {
            let _ = sender.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

async fn yielded(
    ctx: &Ctx,
    id: &CallId,
    mut after: u64,
    sender: &mpsc::Sender<Result<DataChunk, Status>>,
) -> Result<()> {
    let until = Instant::now() + poll_time(STREAM_TIME);
    let mut watch = ctx.functions.calls.watch(id);
    loop {
        watch.mark_unchanged();
        let chunks = ctx.functions.calls.chunks(id, after).await?;
        let all_read = chunks.is_empty();
        for chunk in chunks {
            after = chunk.index;
            if sender.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        if !all_read {
            continue;
        }
        tokio::select! {
            _ = watch.changed() => {}
            () = tokio::time::sleep_until(until) => return Ok(()),
            () = sender.closed() => return Ok(()),
        }
    }
}

pub(in crate::service) async fn function_call_from_id(
    ctx: &Ctx,
    request: FunctionCallFromIdRequest,
) -> Result<FunctionCallFromIdResponse, Status> {
    let call = ctx.functions.calls.get(&call_id(&request.function_call_id)?).await?;
    let inputs = ctx.functions.calls.inputs(&call.call_id).await?;
    Ok(FunctionCallFromIdResponse {
        function_call_id: call.call_id,
        num_inputs: i32::try_from(inputs.len()).unwrap_or(i32::MAX),
        metadata: Some(FunctionCallHandleMetadata {
            app_id: call.app_id,
            function_id: call.function_id,
        }),
    })
}
