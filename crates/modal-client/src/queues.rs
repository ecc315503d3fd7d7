//! Queues: values that programs hand to each other, in partitions that end after a while.

use std::{
    future::IntoFuture,
    ops::Deref,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use modal_proto::client as api;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    client::Client,
    clock,
    error::{Error, Operation, Result},
    heartbeat::{self, Heartbeat},
    ids::QueueId,
    page, pickle,
    rpc::methods,
};

/// How long a partition stays without being put into, unless its user says otherwise. Source: `Queue.put` of Modal's
/// Python client 1.6.4.
const PARTITION_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// How long the server holds one question for values.
const POLL: Duration = Duration::from_secs(50);
/// Values of one call, at most; more are put by several calls. Source: modal.com/docs/guide/queues, read 2026-11-26.
const MOST_VALUES: usize = 5_000;

/// A queue, or one partition of it. Values are anything that serde can write, kept as pickles, so that Python programs read
/// them and the other way round. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    id: QueueId,
    name: String,
    partition: String,
    partition_life: Duration,
}

/// A queue, as a listing shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its id.
    pub id: QueueId,
    /// Its name.
    pub name: String,
    /// When it was made, where the server says it.
    pub created_at: Option<SystemTime>,
    /// Values in all its partitions.
    pub len: usize,
}

/// Looks a queue up; see [`Client::queue`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct QueueLookup {
    client: Client,
    name: String,
    creation: api::ObjectCreationType,
}

/// The queues of an environment; see [`Client::queues`].
#[derive(Debug, Clone)]
pub struct Queues {
    client: Client,
}

/// A queue without a name that the server deletes a while after this is dropped. Used as a [`Queue`].
#[derive(Debug)]
pub struct EphemeralQueue {
    queue: Queue,
    _heartbeat: Heartbeat,
}

impl Deref for EphemeralQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl Client {
    /// Looks up the queue of that name: `client.queue("jobs").create_if_missing().await?`. One RPC.
    pub fn queue(&self, name: impl Into<String>) -> QueueLookup {
        QueueLookup {
            client: self.clone(),
            name: name.into(),
            creation: api::ObjectCreationType::Unspecified,
        }
    }

    /// The queues of this client's environment.
    pub fn queues(&self) -> Queues {
        Queues { client: self.clone() }
    }

    /// A queue without a name, for as long as it is held. One RPC, and a heartbeat every five minutes.
    pub async fn ephemeral_queue(&self) -> Result<EphemeralQueue> {
        let operation = Operation::new("create", "an ephemeral queue");
        let creation = api::ObjectCreationType::Ephemeral;
        let queue = open(self, String::new(), creation, operation).await?;
        let (client, id) = (self.clone(), queue.id.clone());
        let heartbeat = Heartbeat::start(heartbeat::EPHEMERAL, "an ephemeral queue", move || {
            let (client, id) = (client.clone(), id.clone());
            async move {
                let beat = api::QueueHeartbeatRequest { queue_id: id.to_string() };
                let operation = Operation::new("keep", format!("queue `{id}`"));
                client.call(&methods::QUEUE_HEARTBEAT, &beat, operation).await
            }
        });
        Ok(EphemeralQueue { queue, _heartbeat: heartbeat })
    }
}

impl QueueLookup {
    /// Creates the queue if there is none by that name.
    pub fn create_if_missing(mut self) -> Self {
        self.creation = api::ObjectCreationType::CreateIfMissing;
        self
    }

    /// Creates the queue, and fails with [`Error::AlreadyExists`] if there is one.
    pub fn create(mut self) -> Self {
        self.creation = api::ObjectCreationType::CreateFailIfExists;
        self
    }
}

impl IntoFuture for QueueLookup {
    type Output = Result<Queue>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let operation = Operation::new("look up", self.client.object("queue", &self.name));
        Box::pin(async move { open(&self.client, self.name, self.creation, operation).await })
    }
}

async fn open(
    client: &Client,
    name: String,
    creation: api::ObjectCreationType,
    operation: Operation,
) -> Result<Queue> {
    let query = api::QueueGetOrCreateRequest {
        deployment_name: name.clone(),
        environment_name: client.environment_name(),
        object_creation_type: creation.into(),
    };
    let answer = client.call(&methods::QUEUE_GET_OR_CREATE, &query, operation.clone()).await?;
    let id = QueueId::try_from(answer.queue_id)
        .map_err(|error| Error::Protocol { operation, source: error.into() })?;
    let partition = String::new();
    Ok(Queue { client: client.clone(), id, name, partition, partition_life: PARTITION_LIFE })
}

impl Queues {
    /// All queues, newest first. One RPC for every hundred.
    pub async fn list(&self) -> Result<Vec<QueueInfo>> {
        page::collect(async |pagination| {
            let query = api::QueueListRequest {
                environment_name: self.client.environment_name(),
                total_size_limit: COUNT_TO,
                pagination: Some(pagination),
            };
            let operation = || Operation::new("list", "the queues");
            let answer = self.client.call(&methods::QUEUE_LIST, &query, operation()).await?;
            answer.queues.into_iter().map(|item| page_item(item, operation)).collect()
        })
        .await
    }

    /// Deletes a queue and everything in it. One RPC.
    pub async fn delete(&self, queue: &QueueId) -> Result<()> {
        let operation = Operation::new("delete", format!("queue `{queue}`"));
        let query = api::QueueDeleteRequest { queue_id: queue.to_string() };
        self.client.call(&methods::QUEUE_DELETE, &query, operation).await
    }
}

/// How far the server counts for a listing; what Modal's Python client sends.
const COUNT_TO: i32 = 0;

fn page_item(
    item: api::queue_list_response::QueueInfo,
    operation: impl Fn() -> Operation,
) -> Result<page::Item<QueueInfo>> {
    let info = item.metadata.and_then(|metadata| metadata.creation_info);
    let created_at = info.map_or(item.created_at, |info| info.created_at);
    let value = QueueInfo {
        id: QueueId::try_from(item.queue_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?,
        name: item.name,
        created_at: clock::from_unix(created_at),
        len: usize::try_from(item.total_size).unwrap_or(0),
    };
    Ok(page::Item { created_at, value })
}

impl Queue {
    /// Its id.
    pub fn id(&self) -> &QueueId {
        &self.id
    }

    /// Its name; empty for an ephemeral one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A partition of it: a queue of its own, of 5,000 values at most, that needs not be made. Names are up to 64 bytes long.
    #[must_use]
    pub fn partition(&self, name: impl Into<String>) -> Self {
        Self { partition: name.into(), ..self.clone() }
    }

    /// Whole seconds that a partition stays after something was put into it; a day unless this says otherwise.
    #[must_use]
    pub fn partition_life(&self, life: Duration) -> Self {
        Self { partition_life: life, ..self.clone() }
    }

    /// Puts a value at the end. One RPC.
    ///
    /// # Errors
    /// [`Error::RateLimited`] if the partition is full.
    pub async fn put(&self, value: &impl Serialize) -> Result<()> {
        self.put_pickles(vec![self.pickle(value)?]).await
    }

    /// Puts values at the end, in this order. One RPC for every 5,000.
    ///
    /// # Errors
    /// [`Error::RateLimited`] if the partition is full; those before are in it.
    pub async fn put_many<T: Serialize>(&self, values: impl IntoIterator<Item = T>) -> Result<()> {
        let values: Vec<Vec<u8>> =
            values.into_iter().map(|value| self.pickle(&value)).collect::<Result<_>>()?;
        for part in values.chunks(MOST_VALUES) {
            self.put_pickles(part.to_vec()).await?;
        }
        Ok(())
    }

    async fn put_pickles(&self, values: Vec<Vec<u8>>) -> Result<()> {
        let query = api::QueuePutRequest {
            queue_id: self.id.to_string(),
            values,
            partition_key: self.partition.clone().into_bytes(),
            partition_ttl_seconds: i32::try_from(self.partition_life.as_secs()).unwrap_or(i32::MAX),
        };
        self.client.call(&methods::QUEUE_PUT, &query, self.operation("put into")).await
    }

    /// Takes the first value; waits for one, at most this long. One RPC for every 50 seconds.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the value is of another type, or an object of Python's that is no plain value. It is gone
    /// then too.
    pub async fn get<T: DeserializeOwned>(&self, limit: Duration) -> Result<Option<T>> {
        Ok(self.get_many(1, limit).await?.into_iter().next())
    }

    /// Takes the first values, as many as there are up to `most`; waits for the first, at most this long.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        most: usize,
        limit: Duration,
    ) -> Result<Vec<T>> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(POLL);
            let query = api::QueueGetRequest {
                queue_id: self.id.to_string(),
                timeout: left.as_secs_f32(),
                n_values: i32::try_from(most).unwrap_or(i32::MAX),
                partition_key: self.partition.clone().into_bytes(),
            };
            let operation = || self.operation("take from");
            let answer = self.client.call(&methods::QUEUE_GET, &query, operation()).await?;
            if !answer.values.is_empty() || Instant::now() >= until {
                let value = |pickle: Vec<u8>| {
                    pickle::decode(&pickle).map_err(|problem| Error::protocol(operation(), problem))
                };
                return answer.values.into_iter().map(value).collect();
            }
        }
    }

    /// What is in it now, from the start; nothing is taken. One RPC for every part that the server gives.
    ///
    /// # Errors
    /// [`Error::Protocol`] as for [`get`](Self::get).
    pub async fn peek<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let (mut values, mut last_entry_id) = (Vec::new(), String::new());
        loop {
            let query = api::QueueNextItemsRequest {
                queue_id: self.id.to_string(),
                partition_key: self.partition.clone().into_bytes(),
                last_entry_id: last_entry_id.clone(),
                item_poll_timeout: 0.0,
            };
            let operation = || self.operation("look into");
            let answer = self.client.call(&methods::QUEUE_NEXT_ITEMS, &query, operation()).await?;
            let Some(last) = answer.items.last() else { return Ok(values) };
            last_entry_id.clone_from(&last.entry_id);
            for item in answer.items {
                let value = pickle::decode(&item.value);
                values.push(value.map_err(|problem| Error::protocol(operation(), problem))?);
            }
        }
    }

    /// How many values this partition has. One RPC.
    pub async fn len(&self) -> Result<usize> {
        self.count(false).await
    }

    /// Whether this partition is empty. One RPC.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// How many values all partitions have. One RPC.
    pub async fn total_len(&self) -> Result<usize> {
        self.count(true).await
    }

    async fn count(&self, total: bool) -> Result<usize> {
        let partition_key = if total { Vec::new() } else { self.partition.clone().into_bytes() };
        let query = api::QueueLenRequest { queue_id: self.id.to_string(), partition_key, total };
        let answer = self.client.call(&methods::QUEUE_LEN, &query, self.operation("count")).await?;
        Ok(usize::try_from(answer.len).unwrap_or(0))
    }

    /// Removes every value of this partition. One RPC.
    pub async fn clear(&self) -> Result<()> {
        self.clear_with(false).await
    }

    /// Removes every value of every partition. One RPC.
    pub async fn clear_all(&self) -> Result<()> {
        self.clear_with(true).await
    }

    async fn clear_with(&self, all_partitions: bool) -> Result<()> {
        let partition = if all_partitions { "" } else { self.partition.as_str() };
        let query = api::QueueClearRequest {
            queue_id: self.id.to_string(),
            partition_key: partition.as_bytes().to_vec(),
            all_partitions,
        };
        self.client.call(&methods::QUEUE_CLEAR, &query, self.operation("clear")).await
    }

    /// Deletes the queue and everything in it. One RPC.
    pub async fn delete(self) -> Result<()> {
        self.client.queues().delete(&self.id).await
    }

    fn pickle(&self, value: &impl Serialize) -> Result<Vec<u8>> {
        pickle::encode(value).map_err(|problem| Error::invalid(self.operation("put into"), problem))
    }

    fn operation(&self, verb: &'static str) -> Operation {
        let queue = match self.name.as_str() {
            "" => format!("queue `{}`", self.id),
            name => self.client.object("queue", name),
        };
        match self.partition.as_str() {
            "" => Operation::new(verb, queue),
            partition => Operation::new(verb, format!("partition `{partition}` of {queue}")),
        }
    }
}
