//! Lines that earlier versions kept among the records, one a row.
//!
//! The old tables stay, empty: migrations of the records name them.

use modal_proto::client::FileDescriptor;
use sqlx::SqlitePool;

use super::Source;
use super::block::LogLine;
use super::writer::{Message, Writer};
use crate::error::{Error, Result};

/// Lines moved at once.
const BATCH: i64 = 10_000;

#[derive(sqlx::FromRow)]
struct Old {
    entry: i64,
    app_id: String,
    task_id: String,
    sandbox_id: String,
    image_id: String,
    file_descriptor: i32,
    timestamp: f64,
    data: String,
    function_id: String,
    variant_id: String,
    call_id: String,
    input_id: String,
}

impl Old {
    fn message(self) -> Message {
        let source = Source {
            app: self.app_id,
            task: self.task_id,
            sandbox: self.sandbox_id,
            image: self.image_id,
            function: self.function_id,
            variant: self.variant_id,
            call: self.call_id,
            input: self.input_id,
        };
        let from = FileDescriptor::try_from(self.file_descriptor).unwrap_or(FileDescriptor::Info);
        Message::Lines(source, vec![LogLine { data: self.data, from, at: self.timestamp }])
    }
}

/// Moves them, once, and gives their room back to the disk.
pub(super) async fn from_records(records: &SqlitePool, writer: &mut Writer) -> Result<()> {
    let failed = || Error::database("move the logs out of the records");
    let any: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM logs UNION SELECT 1 FROM finished_tasks LIMIT 1")
            .fetch_optional(records)
            .await
            .map_err(failed())?;
    if any.is_none() {
        return Ok(());
    }
    tracing::info!("moving the logs out of the records");
    // After a kill it goes on where it was; at worst a batch is there twice.
    while move_lines(records, writer).await.map_err(failed())? {}
    move_finished(records, writer).await.map_err(failed())?;
    for query in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        sqlx::query(query).fetch_all(records).await.map_err(failed())?;
    }
    Ok(())
}

/// Moves the oldest lines; false if there are none.
async fn move_lines(records: &SqlitePool, writer: &mut Writer) -> Result<bool, sqlx::Error> {
    let lines: Vec<Old> = sqlx::query_as("SELECT * FROM logs ORDER BY entry LIMIT ?")
        .bind(BATCH)
        .fetch_all(records)
        .await?;
    let Some(newest) = lines.last().map(|line| line.entry) else { return Ok(false) };
    let batch: Vec<Message> = lines.into_iter().map(Old::message).collect();
    writer.store(&batch).await?;
    sqlx::query("DELETE FROM logs WHERE entry <= ?").bind(newest).execute(records).await?;
    Ok(true)
}

async fn move_finished(records: &SqlitePool, writer: &mut Writer) -> Result<(), sqlx::Error> {
    let tasks: Vec<String> =
        sqlx::query_scalar("SELECT task_id FROM finished_tasks").fetch_all(records).await?;
    // Nobody waits for these.
    let finish = |task| Message::Finish(task, tokio::sync::oneshot::channel().0);
    writer.store(&tasks.into_iter().map(finish).collect::<Vec<_>>()).await?;
    sqlx::query("DELETE FROM finished_tasks").execute(records).await.map(drop)
}
