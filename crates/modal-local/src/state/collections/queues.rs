//! What is in a queue: items in partitions, first in, first out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use modal_proto::client::QueueGetResponse;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::Notify;

use super::too_large;
use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::remember;
use crate::ids::QueueId;

/// Largest item, in bytes. This limit and the next three: the SDK's documentation of `Queue`.
const MAX_ITEM: usize = 1 << 20;
/// Items of a partition, at most.
const MAX_ITEMS: i64 = 5_000;
/// Bytes of a partition, at most.
const MAX_BYTES: i64 = 64 << 20;
/// Partitions of a queue, at most.
const MAX_PARTITIONS: i64 = 100_000;
/// Longest name of a partition, in bytes.
const MAX_PARTITION_KEY: usize = 64;
/// How long a partition lives after the last put unless the put says otherwise, in seconds.
const PARTITION_LIFE: i32 = 24 * 3_600;
/// Items of one look, at most.
const PAGE: i64 = 100;

/// One partition of one queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Partition {
    queue: QueueId,
    key: Vec<u8>,
}

impl Partition {
    /// The partition of this name; the empty one is the default.
    pub(crate) fn new(queue: QueueId, key: Vec<u8>) -> Result<Self> {
        if key.len() > MAX_PARTITION_KEY {
            return Err(Error::invalid("a queue's partition key has at most 64 bytes"));
        }
        Ok(Self { queue, key })
    }
}

/// An item that stays in its queue.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Item {
    pub(crate) entry: i64,
    pub(crate) value: Vec<u8>,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Fill {
    pub(crate) partitions: i64,
    pub(crate) items: i64,
}

/// The items of all queues. Clones share them. Whether a queue exists is for the caller to ask.
#[derive(Clone)]
pub(crate) struct Queues {
    db: SqlitePool,
    waiting: Arc<Mutex<HashMap<Partition, Weak<Notify>>>>,
}

impl Queues {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db, waiting: Arc::default() }
    }

    /// Adds items at the end, all of them or none.
    ///
    /// # Errors
    ///
    /// `Exhausted` where there is no room; the SDKs then try again.
    pub(crate) async fn put(
        &self,
        partition: &Partition,
        values: &[Vec<u8>],
        life_secs: i32,
    ) -> Result<()> {
        if values.iter().any(|value| value.len() > MAX_ITEM) {
            return Err(too_large("a queue's item has at most 1 MiB"));
        }
        if values.is_empty() {
            return Ok(());
        }
        let life = if life_secs > 0 { life_secs.min(PARTITION_LIFE) } else { PARTITION_LIFE };
        let failed = || Error::database("put into a queue");
        let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        drop_expired(&mut transaction).await?;
        check_room(&mut transaction, partition, values).await?;
        insert(&mut transaction, partition, values, clock::now() + f64::from(life))
            .await
            .map_err(failed())?;
        remember(&mut transaction, "queue_put", &()).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        self.wake(partition);
        Ok(())
    }

    /// Removes up to `count` items from the front. Each item goes to one caller.
    pub(crate) async fn take(&self, partition: &Partition, count: i32) -> Result<Vec<Vec<u8>>> {
        let failed = || Error::database("take from a queue");
        let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let mut taken: Vec<Item> = sqlx::query_as(
            "DELETE FROM queue_items WHERE entry IN
               (SELECT item.entry FROM queue_items AS item
                JOIN queue_partitions AS part USING (queue_id, partition)
                WHERE queue_id = ? AND partition = ? AND part.expires_at > ?
                ORDER BY item.entry LIMIT ?)
             RETURNING entry, value",
        )
        .bind(partition.queue.as_str())
        .bind(&partition.key)
        .bind(clock::now())
        .bind(i64::from(count.max(0)))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed())?;
        // SQLite gives deleted rows in no particular order.
        taken.sort_unstable_by_key(|item| item.entry);
        let values: Vec<_> = taken.into_iter().map(|item| item.value).collect();
        if !values.is_empty() {
            let answer = QueueGetResponse { values: values.clone() };
            remember(&mut transaction, "queue_get", &answer).await.map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())?;
        Ok(values)
    }

    /// Up to a page of items after entry `after`, oldest first; they stay.
    pub(crate) async fn peek(&self, partition: &Partition, after: i64) -> Result<Vec<Item>> {
        sqlx::query_as(
            "SELECT item.entry, item.value FROM queue_items AS item
             JOIN queue_partitions AS part USING (queue_id, partition)
             WHERE queue_id = ? AND partition = ? AND part.expires_at > ? AND item.entry > ?
             ORDER BY item.entry LIMIT ?",
        )
        .bind(partition.queue.as_str())
        .bind(&partition.key)
        .bind(clock::now())
        .bind(after)
        .bind(PAGE)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("read from a queue"))
    }

    /// How many items a partition has, or the whole queue.
    pub(crate) async fn len(&self, queue: &QueueId, partition: Option<&Partition>) -> Result<i32> {
        let len: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM queue_items JOIN queue_partitions AS part USING (queue_id, partition)
             WHERE queue_id = ?1 AND part.expires_at > ?2 AND (?3 IS NULL OR partition = ?3)",
        )
        .bind(queue.as_str())
        .bind(clock::now())
        .bind(partition.map(|it| &it.key))
        .fetch_one(&self.db)
        .await
        .map_err(Error::database("count a queue"))?;
        Ok(i32::try_from(len).unwrap_or(i32::MAX))
    }

    /// How many partitions and items a queue has.
    pub(crate) async fn fill(&self, queue: &str) -> Result<Fill> {
        sqlx::query_as(
            "SELECT count(DISTINCT partition) AS partitions, count(*) AS items
             FROM queue_items JOIN queue_partitions AS part USING (queue_id, partition)
             WHERE queue_id = ? AND part.expires_at > ?",
        )
        .bind(queue)
        .bind(clock::now())
        .fetch_one(&self.db)
        .await
        .map_err(Error::database("count a queue"))
    }

    /// Removes the items of a partition, or of the whole queue.
    pub(crate) async fn clear(&self, queue: &QueueId, partition: Option<&Partition>) -> Result<()> {
        sqlx::query(
            "DELETE FROM queue_items WHERE queue_id = ?1 AND (?2 IS NULL OR partition = ?2)",
        )
        .bind(queue.as_str())
        .bind(partition.map(|it| &it.key))
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("clear a queue"))
    }

    /// Removes what is in partitions whose time is over; answers how many partitions.
    pub(crate) async fn forget_expired(&self) -> Result<u64> {
        let failed = || Error::database("collect garbage");
        let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let forgotten = drop_expired(&mut transaction).await?;
        transaction.commit().await.map_err(failed())?;
        Ok(forgotten)
    }

    /// What says that something may have been put into a partition. Whoever waits calls this, then
    /// [`Notify::notified`], then looks, and only then waits: so that no put is missed.
    pub(crate) fn signal(&self, partition: &Partition) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signal) = waiting.get(partition).and_then(Weak::upgrade) {
            return signal;
        }
        waiting.retain(|_, signal| signal.strong_count() > 0);
        let signal = Arc::new(Notify::new());
        waiting.insert(partition.clone(), Arc::downgrade(&signal));
        signal
    }

    fn wake(&self, partition: &Partition) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signal) = waiting.get(partition).and_then(Weak::upgrade) {
            signal.notify_waiters();
        }
    }
}

/// A client's seconds as a limit, at most a minute; nonsense counts as "answer at once".
pub(crate) fn poll_limit(seconds: f32) -> Duration {
    Duration::try_from_secs_f32(seconds).unwrap_or_default().min(Duration::from_secs(60))
}

async fn check_room(
    connection: &mut SqliteConnection,
    partition: &Partition,
    values: &[Vec<u8>],
) -> Result<()> {
    let failed = || Error::database("put into a queue");
    let (items, bytes): (i64, i64) = sqlx::query_as(
        "SELECT count(*), ifnull(sum(length(value)), 0) FROM queue_items
         WHERE queue_id = ? AND partition = ?",
    )
    .bind(partition.queue.as_str())
    .bind(&partition.key)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed())?;
    let more: usize = values.iter().map(Vec::len).sum();
    if items + values.len() as i64 > MAX_ITEMS || bytes + more as i64 > MAX_BYTES {
        return Err(Error::Exhausted(format!(
            "the queue's partition is full: at most {MAX_ITEMS} items and 64 MiB"
        )));
    }
    let (others,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM queue_partitions WHERE queue_id = ? AND partition <> ?",
    )
    .bind(partition.queue.as_str())
    .bind(&partition.key)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed())?;
    if others >= MAX_PARTITIONS {
        return Err(Error::Exhausted(format!("a queue has at most {MAX_PARTITIONS} partitions")));
    }
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    partition: &Partition,
    values: &[Vec<u8>],
    expires_at: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO queue_partitions (queue_id, partition, expires_at) VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at",
    )
    .bind(partition.queue.as_str())
    .bind(&partition.key)
    .bind(expires_at)
    .execute(&mut *connection)
    .await?;
    for value in values {
        sqlx::query("INSERT INTO queue_items (queue_id, partition, value) VALUES (?, ?, ?)")
            .bind(partition.queue.as_str())
            .bind(&partition.key)
            .bind(value)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn drop_expired(connection: &mut SqliteConnection) -> Result<u64> {
    let failed = || Error::database("collect garbage");
    let now = clock::now();
    sqlx::query(
        "DELETE FROM queue_items WHERE (queue_id, partition) IN
           (SELECT queue_id, partition FROM queue_partitions WHERE expires_at <= ?)",
    )
    .bind(now)
    .execute(&mut *connection)
    .await
    .map_err(failed())?;
    sqlx::query("DELETE FROM queue_partitions WHERE expires_at <= ?")
        .bind(now)
        .execute(&mut *connection)
        .await
        .map(|done| done.rows_affected())
        .map_err(failed())
}
