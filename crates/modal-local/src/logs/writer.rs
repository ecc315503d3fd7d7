//! The one task that writes logs.

use std::collections::{HashMap, HashSet};

use modal_proto::client::FileDescriptor;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::block::{Block, LogLine, Packer, count_lines};
use super::trim::{self, Retention, Trimmed};
use super::{QUEUE, Source};
use crate::clock;
use crate::error::{Error, Result};

/// What the lines of one task or build may take; beyond it the middle is dropped.
pub(super) const MAX_OWNER_BYTES: i64 = 16 << 20;
/// To this much a log that has become too long is cut, so that cutting is rare.
const CUT_TO: i64 = MAX_OWNER_BYTES / 4 * 3;
/// So much of the beginning stays.
const HEAD_BYTES: i64 = 1 << 20;
/// What a row takes beside its text.
const ROW_BYTES: i64 = 128;
/// Sources whose numbers are remembered.
const KNOWN: usize = 4_096;

pub(super) enum Message {
    Lines(Source, Vec<LogLine>),
    /// A task appends no more; answered once that, and all before it, is stored.
    Finish(String, oneshot::Sender<()>),
    Flush(oneshot::Sender<()>),
    Trim(Retention, oneshot::Sender<Result<Trimmed>>),
}

/// A source's row and its owner's.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    source: i64,
    owner: i64,
}

/// Writes what comes, as much at once as is there.
pub(super) struct Writer {
    db: SqlitePool,
    /// The newest entry.
    entry: i64,
    known: HashMap<Source, Numbers>,
}

/// A block as cutting sees it.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
struct Sized {
    last_entry: i64,
    lines: i64,
    bytes: i64,
    is_gap: bool,
}

impl Writer {
    pub(super) async fn new(db: SqlitePool) -> Result<Self> {
        let entry: Option<i64> = sqlx::query_scalar("SELECT max(last_entry) FROM blocks")
            .fetch_one(&db)
            .await
            .map_err(Error::database("read the logs"))?;
        Ok(Self { db, entry: entry.unwrap_or(0), known: HashMap::new() })
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        batches: watch::Sender<u64>,
    ) {
        let mut batch = Vec::new();
        while messages.recv_many(&mut batch, QUEUE).await > 0 {
            if let Err(error) = self.store(&batch).await {
                tracing::warn!(%error, "log lines are lost");
                // What was not committed has no numbers.
                self.known.clear();
            }
            for message in batch.drain(..) {
                match message {
                    // Who asked may be gone.
                    Message::Flush(done) | Message::Finish(_, done) => drop(done.send(())),
                    Message::Trim(keep, done) => {
                        self.known.clear();
                        drop(done.send(trim::trim(&self.db, keep).await));
                    }
                    Message::Lines(..) => {}
                }
            }
            batches.send_modify(|count| *count += 1);
        }
    }

    /// Stores lines and ends of one batch, all or none.
    pub(super) async fn store(&mut self, batch: &[Message]) -> Result<(), sqlx::Error> {
        let mut packer = Packer::default();
        let mut finished = Vec::new();
        for message in batch {
            match message {
                Message::Lines(source, lines) => {
                    lines.iter().for_each(|line| packer.push(source, line));
                }
                Message::Finish(task, _) => finished.push(task),
                Message::Flush(_) | Message::Trim(..) => {}
            }
        }
        if packer.blocks.is_empty() && finished.is_empty() {
            return Ok(());
        }
        let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
        let mut owners = HashSet::new();
        for block in &packer.blocks {
            owners.insert(self.append(&mut transaction, block).await?);
        }
        for owner in owners {
            cut(&mut transaction, owner).await?;
        }
        for task in finished {
            finish(&mut transaction, task).await?;
        }
        transaction.commit().await
    }

    /// Adds a block; answers its owner.
    async fn append(
        &mut self,
        transaction: &mut Transaction<'_, Sqlite>,
        block: &Block<'_>,
    ) -> Result<i64, sqlx::Error> {
        let Numbers { source, owner } = self.numbers(transaction, block.source).await?;
        let lines = block.lines();
        let bytes = block.data.len() as i64 + ROW_BYTES;
        self.entry += lines;
        sqlx::query(
            "INSERT INTO blocks (last_entry, source_id, owner_id, file_descriptor, at, lines, bytes, data)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.entry)
        .bind(source)
        .bind(owner)
        .bind(block.from as i32)
        .bind(block.at)
        .bind(lines)
        .bind(bytes)
        .bind(&block.data)
        .execute(&mut **transaction)
        .await?;
        sqlx::query("UPDATE owners SET bytes = bytes + ? WHERE owner_id = ?")
            .bind(bytes)
            .bind(owner)
            .execute(&mut **transaction)
            .await?;
        Ok(owner)
    }

    async fn numbers(
        &mut self,
        transaction: &mut Transaction<'_, Sqlite>,
        source: &Source,
    ) -> Result<Numbers, sqlx::Error> {
        if let Some(numbers) = self.known.get(source) {
            return Ok(*numbers);
        }
        let owner = owner(transaction, source.owner()).await?;
        // An update that changes nothing, so that a row that was there answers its number, too.
        let number: i64 = sqlx::query_scalar(
            "INSERT INTO sources VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET owner_id = excluded.owner_id RETURNING source_id",
        )
        .bind(owner)
        .bind(&source.app)
        .bind(&source.task)
        .bind(&source.sandbox)
        .bind(&source.image)
        .bind(&source.function)
        .bind(&source.variant)
        .bind(&source.call)
        .bind(&source.input)
        .fetch_one(&mut **transaction)
        .await?;
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let numbers = Numbers { source: number, owner };
        self.known.insert(source.clone(), numbers);
        Ok(numbers)
    }
}

async fn owner(transaction: &mut Transaction<'_, Sqlite>, name: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO owners (name) VALUES (?)
         ON CONFLICT DO UPDATE SET name = excluded.name RETURNING owner_id",
    )
    .bind(name)
    .fetch_one(&mut **transaction)
    .await
}

async fn finish(transaction: &mut Transaction<'_, Sqlite>, task: &str) -> Result<(), sqlx::Error> {
    let owner = owner(transaction, task).await?;
    sqlx::query("UPDATE owners SET finished_at = coalesce(finished_at, ?) WHERE owner_id = ?")
        .bind(clock::now())
        .bind(owner)
        .execute(&mut **transaction)
        .await
        .map(drop)
}

/// Drops the middle of a log that has become too long. A line in its place says how much went.
async fn cut(transaction: &mut Transaction<'_, Sqlite>, owner: i64) -> Result<(), sqlx::Error> {
    let total: i64 = sqlx::query_scalar("SELECT bytes FROM owners WHERE owner_id = ?")
        .bind(owner)
        .fetch_one(&mut **transaction)
        .await?;
    if total <= MAX_OWNER_BYTES {
        return Ok(());
    }
    let blocks: Vec<Sized> = sqlx::query_as(
        "SELECT last_entry, lines, bytes, is_gap FROM blocks WHERE owner_id = ? ORDER BY last_entry",
    )
    .bind(owner)
    .fetch_all(&mut **transaction)
    .await?;
    let middle = middle(&blocks, total);
    let (Some(first), Some(last)) = (middle.first(), middle.last()) else { return Ok(()) };
    let gone: i64 = middle.iter().map(|block| block.bytes).sum();
    let text = middle.iter().filter(|block| !block.is_gap);
    let (lines, bytes) = text.fold((0, 0), |(lines, bytes), block| {
        (lines + block.lines, bytes + block.bytes - ROW_BYTES)
    });
    let (lines, bytes): (i64, i64) = sqlx::query_as(
        "UPDATE owners SET dropped_lines = dropped_lines + ?, dropped_bytes = dropped_bytes + ?
         WHERE owner_id = ? RETURNING dropped_lines, dropped_bytes",
    )
    .bind(lines)
    .bind(bytes)
    .bind(owner)
    .fetch_one(&mut **transaction)
    .await?;
    let notice = format!("[{lines} lines ({bytes} bytes) of this log were dropped here]\n");
    let notice_bytes = notice.len() as i64 + ROW_BYTES;
    sqlx::query("DELETE FROM blocks WHERE owner_id = ? AND last_entry >= ? AND last_entry < ?")
        .bind(owner)
        .bind(first.last_entry)
        .bind(last.last_entry)
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "UPDATE blocks SET file_descriptor = ?, lines = ?, bytes = ?, is_gap = 1, data = ?
         WHERE last_entry = ?",
    )
    .bind(FileDescriptor::Info as i32)
    .bind(count_lines(&notice))
    .bind(notice_bytes)
    .bind(notice)
    .bind(last.last_entry)
    .execute(&mut **transaction)
    .await?;
    sqlx::query("UPDATE owners SET bytes = bytes - ? WHERE owner_id = ?")
        .bind(gone - notice_bytes)
        .bind(owner)
        .execute(&mut **transaction)
        .await
        .map(drop)
}

/// What goes of a log that takes `total`: after the beginning, as much as is too much.
fn middle(blocks: &[Sized], total: i64) -> &[Sized] {
    let mut head = 0;
    let start = blocks
        .iter()
        .take_while(|block| {
            head += block.bytes;
            // What was dropped before and what is dropped now are told in one place.
            !block.is_gap && head <= HEAD_BYTES
        })
        .count();
    let mut left = total;
    let count = blocks[start..]
        .iter()
        .take_while(|block| {
            let too_much = left > CUT_TO;
            left -= block.bytes;
            too_much
        })
        .count();
    // The newest block stays: entries are numbered on from it.
    &blocks[start..(start + count).min(blocks.len().saturating_sub(1)).max(start)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_stay() {
        let block = |number: i64| Sized {
            last_entry: number,
            lines: 1,
            bytes: HEAD_BYTES / 2,
            is_gap: false,
        };
        let blocks: Vec<Sized> = (1..=34).map(block).collect();
        let total = blocks.iter().map(|block| block.bytes).sum();
        let gone: Vec<i64> = middle(&blocks, total).iter().map(|block| block.last_entry).collect();
        assert_eq!(gone, (3..=12).collect::<Vec<_>>(), "17 MiB become 12, after the first MiB");
        assert!(middle(&blocks[..1], total).is_empty(), "the newest is never dropped");
        let mut again = blocks;
        again[1].is_gap = true;
        assert_eq!(middle(&again, total)[0].last_entry, 2, "an earlier gap goes with the rest");
    }
}
