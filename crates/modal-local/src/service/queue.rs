//! RPCs of queues. Items are opaque here: the SDK has serialized them.

use std::time::Duration;

use modal_proto::client::queue_list_response::QueueInfo;
use modal_proto::client::{
    QueueClearRequest, QueueDeleteRequest, QueueGetByIdRequest, QueueGetByIdResponse,
    QueueGetOrCreateRequest, QueueGetOrCreateResponse, QueueGetRequest, QueueGetResponse,
    QueueHeartbeatRequest, QueueItem, QueueLenRequest, QueueLenResponse, QueueListRequest,
    QueueListResponse, QueueMetadata, QueueNextItemsRequest, QueueNextItemsResponse,
    QueuePutRequest,
};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use super::workspace::created;
use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::QueueId;
use crate::state::collections::Collection;
use crate::state::collections::queues::{Item, Partition, poll_limit};
use crate::state::creation::{Creation, Page};

pub(super) async fn queue_get_or_create(
    ctx: &Ctx,
    request: QueueGetOrCreateRequest,
) -> Result<QueueGetOrCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let creation =
        Creation::from_request(request.object_creation_type, &request.deployment_name, "")?;
    let answer = |queue: &Collection| QueueGetOrCreateResponse {
        queue_id: queue.collection_id.clone(),
        metadata: Some(metadata(queue.clone())),
    };
    let queue = ctx.queue_objects.get_or_create(&environment, &creation, &[], answer).await?;
    Ok(answer(&queue))
}

pub(super) async fn queue_get_by_id(
    ctx: &Ctx,
    request: QueueGetByIdRequest,
) -> Result<QueueGetByIdResponse, Status> {
    let queue = ctx.queue_objects.get(id(&request.queue_id)?.as_str()).await?;
    Ok(QueueGetByIdResponse {
        queue_id: queue.collection_id.clone(),
        metadata: Some(metadata(queue)),
    })
}

pub(super) async fn queue_list(
    ctx: &Ctx,
    request: QueueListRequest,
) -> Result<QueueListResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let page = Page::from_request(request.pagination);
    let most = if request.total_size_limit > 0 { request.total_size_limit } else { i32::MAX };
    let mut queues = Vec::new();
    for queue in ctx.queue_objects.list(&environment, page).await? {
        let fill = ctx.queues.fill(&queue.collection_id).await?;
        queues.push(QueueInfo {
            name: queue.name.clone().unwrap_or_default(),
            created_at: queue.created_at,
            num_partitions: i32::try_from(fill.partitions).unwrap_or(i32::MAX),
            total_size: i32::try_from(fill.items).unwrap_or(i32::MAX).min(most),
            queue_id: queue.collection_id.clone(),
            metadata: Some(metadata(queue)),
        });
    }
    Ok(QueueListResponse { queues, environment_name: environment.name })
}

pub(super) async fn queue_delete(ctx: &Ctx, request: QueueDeleteRequest) -> Result<(), Status> {
    Ok(ctx.queue_objects.delete(id(&request.queue_id)?.as_str()).await?)
}

pub(super) async fn queue_heartbeat(
    ctx: &Ctx,
    request: QueueHeartbeatRequest,
) -> Result<(), Status> {
    Ok(ctx.queue_objects.heartbeat(id(&request.queue_id)?.as_str()).await?)
}

pub(super) async fn queue_put(ctx: &Ctx, request: QueuePutRequest) -> Result<(), Status> {
    let queue = existing(ctx, &request.queue_id).await?;
    let partition = Partition::new(queue, request.partition_key)?;
    Ok(ctx.queues.put(&partition, &request.values, request.partition_ttl_seconds).await?)
}

/// Waits for items, then takes them. Only the taking happens once for an idempotency key: a client
/// that went away while it waited takes nothing.
pub(super) async fn queue_get(
    ctx: &Ctx,
    request: QueueGetRequest,
    caller: &Caller,
) -> Result<QueueGetResponse, Status> {
    let queue = existing(ctx, &request.queue_id).await?;
    let partition = Partition::new(queue, request.partition_key)?;
    let count = request.n_values.max(1);
    let deadline = Instant::now() + poll_limit(request.timeout);
    loop {
        let signal = ctx.queues.signal(&partition);
        let mut put = std::pin::pin!(signal.notified());
        put.as_mut().enable();
        match take_once(ctx, &partition, count, caller).await {
            Err(status) if status.code() == Code::NotFound => {}
            done => return done,
        }
        if timeout_at(deadline.min(recheck()), put).await.is_err() && Instant::now() >= deadline {
            existing(ctx, &request.queue_id).await?;
            return Ok(QueueGetResponse { values: Vec::new() });
        }
    }
}

/// A waiting call looks again this often also without a signal, for a queue may be deleted.
fn recheck() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// NOT_FOUND where there was nothing to take: unlike an answer, it is not remembered.
async fn take_once(
    ctx: &Ctx,
    partition: &Partition,
    count: i32,
    caller: &Caller,
) -> Result<QueueGetResponse, Status> {
    let (queues, partition) = (ctx.queues.clone(), partition.clone());
    let take = async move {
        let values = queues.take(&partition, count).await?;
        match values.is_empty() {
            true => Err(Status::not_found("the queue is empty")),
            false => Ok(QueueGetResponse { values }),
        }
    };
    ctx.idempotency.once("queue_get", caller, take).await
}

/// Items after the one that the caller saw last. They stay in the queue.
pub(super) async fn queue_next_items(
    ctx: &Ctx,
    request: QueueNextItemsRequest,
) -> Result<QueueNextItemsResponse, Status> {
    let queue = existing(ctx, &request.queue_id).await?;
    let partition = Partition::new(queue, request.partition_key)?;
    let after = match request.last_entry_id.as_str() {
        "" => 0,
        id => id.parse().map_err(|_| Error::invalid(format!("{id:?} is no entry of a queue")))?,
    };
    let deadline = Instant::now() + poll_limit(request.item_poll_timeout);
    loop {
        let signal = ctx.queues.signal(&partition);
        let mut put = std::pin::pin!(signal.notified());
        put.as_mut().enable();
        let items = ctx.queues.peek(&partition, after).await?;
        if !items.is_empty() || timeout_at(deadline, put).await.is_err() {
            return Ok(QueueNextItemsResponse { items: items.into_iter().map(item).collect() });
        }
    }
}

pub(super) async fn queue_len(
    ctx: &Ctx,
    request: QueueLenRequest,
) -> Result<QueueLenResponse, Status> {
    let queue = existing(ctx, &request.queue_id).await?;
    let partition = match request.total {
        true => None,
        false => Some(Partition::new(queue.clone(), request.partition_key)?),
    };
    Ok(QueueLenResponse { len: ctx.queues.len(&queue, partition.as_ref()).await? })
}

pub(super) async fn queue_clear(ctx: &Ctx, request: QueueClearRequest) -> Result<(), Status> {
    let queue = existing(ctx, &request.queue_id).await?;
    let partition = match request.all_partitions {
        true => None,
        false => Some(Partition::new(queue.clone(), request.partition_key)?),
    };
    Ok(ctx.queues.clear(&queue, partition.as_ref()).await?)
}

fn item(item: Item) -> QueueItem {
    QueueItem { value: item.value, entry_id: item.entry.to_string() }
}

fn id(text: &str) -> Result<QueueId> {
    QueueId::parse(text).map_err(Error::from)
}

async fn existing(ctx: &Ctx, text: &str) -> Result<QueueId> {
    let id = id(text)?;
    ctx.queue_objects.get(id.as_str()).await.map(|_| id)
}

fn metadata(queue: Collection) -> QueueMetadata {
    QueueMetadata {
        name: queue.name.unwrap_or_default(),
        creation_info: Some(created(queue.created_at)),
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use modal_proto::client::ObjectCreationType;

    use super::*;
    use crate::caller::ClientKind;
    use crate::server::ServerConfig;
    use crate::state_dir::StateDir;

    fn caller(key: &str) -> Caller {
        Caller {
            kind: ClientKind::Python,
            needs_tls: false,
            version: String::new(),
            idempotency_key: Some(key.to_owned()),
        }
    }

    fn get(queue_id: &str, timeout: f32) -> QueueGetRequest {
        QueueGetRequest {
            queue_id: queue_id.to_owned(),
            timeout,
            n_values: 1,
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_client_that_went_away_takes_nothing_and_a_repeated_call_takes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let config = ServerConfig::new(StateDir::new(dir.path()));
        let ctx = Ctx::open(config, "http://127.0.0.1:1".to_owned()).await.unwrap();
        let request = QueueGetOrCreateRequest {
            deployment_name: "q".to_owned(),
            object_creation_type: ObjectCreationType::CreateIfMissing as i32,
            ..Default::default()
        };
        let id = queue_get_or_create(&ctx, request).await.unwrap().queue_id;
        {
            let gone = caller("gone");
            let mut waiting = Box::pin(queue_get(&ctx, get(&id, 50.0), &gone));
            let patience = Duration::from_millis(200);
            tokio::time::timeout(patience, &mut waiting).await.unwrap_err();
            assert!(poll!(&mut waiting).is_pending());
        }
        let values = vec![b"one".to_vec(), b"two".to_vec()];
        let put = QueuePutRequest { queue_id: id.clone(), values, ..Default::default() };
        queue_put(&ctx, put).await.unwrap();
        for _attempt in 0..2 {
            let taken = queue_get(&ctx, get(&id, 0.0), &caller("call")).await.unwrap();
            assert_eq!(taken.values, [b"one"]);
        }
        let taken = queue_get(&ctx, get(&id, 0.0), &caller("next")).await.unwrap();
        assert_eq!(taken.values, [b"two"]);
    }
}
