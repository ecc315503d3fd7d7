//! The log of every app: lines of its sandboxes and image builds, in the order they came.
//!
//! Lines are written in batches by one task, so that a chatty sandbox costs few transactions;
//! whoever appends waits when the writer falls behind. Followers are woken after each batch.

use std::time::Duration;

use modal_proto::client::FileDescriptor;
use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{AppId, ImageId, SandboxId, TaskId};

/// Batches that may wait for the writer.
const QUEUE: usize = 256;
/// Lines that are kept; the oldest go first.
const MAX_LINES: i64 = 2_000_000;
/// How long lines are kept.
const MAX_AGE: Duration = Duration::from_secs(35 * 86_400);

/// One line, or a piece of one, with its line end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogLine {
    pub(crate) data: String,
    pub(crate) from: FileDescriptor,
    /// Seconds since 1970.
    pub(crate) at: f64,
}

/// Who wrote a line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) app: String,
    pub(crate) task: String,
    pub(crate) sandbox: String,
    pub(crate) image: String,
    pub(crate) function: String,
    /// The function with its parameters and options, if it is a variant.
    pub(crate) variant: String,
    pub(crate) call: String,
    pub(crate) input: String,
}

/// A line as it is stored.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct LogRecord {
    /// Grows from line to line.
    pub(crate) entry: i64,
    pub(crate) app_id: String,
    pub(crate) task_id: String,
    pub(crate) sandbox_id: String,
    pub(crate) image_id: String,
    pub(crate) file_descriptor: i32,
    pub(crate) timestamp: f64,
    pub(crate) data: String,
    pub(crate) function_id: String,
    pub(crate) call_id: String,
    pub(crate) input_id: String,
}

/// Which lines are asked for; empty fields match everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LogFilter {
    pub(crate) app: String,
    pub(crate) task: String,
    pub(crate) sandbox: String,
    /// A [`FileDescriptor`]; 0 for all.
    pub(crate) file_descriptor: i32,
    pub(crate) text: String,
    pub(crate) function: String,
    pub(crate) variant: String,
    pub(crate) call: String,
    pub(crate) input: String,
}

/// How many lines fell into one stretch of time.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct LogCount {
    /// The stretch's number, counted from the start of the range.
    pub(crate) bucket: i64,
    pub(crate) file_descriptor: i32,
    pub(crate) lines: i64,
}

enum Message {
    Lines(Source, Vec<LogLine>),
    Finish(String),
    Flush(oneshot::Sender<()>),
}

/// The logs of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Logs {
    db: SqlitePool,
    queue: mpsc::Sender<Message>,
    written: watch::Receiver<u64>,
}

impl Logs {
    /// Starts the writer.
    pub(crate) fn open(db: SqlitePool) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        let (batches, written) = watch::channel(0);
        tokio::spawn(write(db.clone(), messages, batches));
        Self { db, queue, written }
    }

    /// Appends lines of a sandbox.
    pub(crate) async fn append_task(
        &self,
        app: &AppId,
        task: &TaskId,
        sandbox: &SandboxId,
        lines: Vec<LogLine>,
    ) {
        let source = Source {
            app: app.to_string(),
            task: task.to_string(),
            sandbox: sandbox.to_string(),
            ..Source::default()
        };
        self.send(Message::Lines(source, lines)).await;
    }

    /// Appends lines of whoever it is.
    pub(crate) async fn append(&self, source: Source, lines: Vec<LogLine>) {
        self.send(Message::Lines(source, lines)).await;
    }

    /// Appends lines of an image build that an app asked for.
    pub(crate) async fn append_build(&self, app: &AppId, image: &ImageId, lines: Vec<LogLine>) {
        let (app, image) = (app.to_string(), image.to_string());
        self.send(Message::Lines(Source { app, image, ..Source::default() }, lines)).await;
    }

    /// Says that a task appends no more: who follows it comes to an end.
    pub(crate) async fn finish_task(&self, task: &TaskId) {
        self.send(Message::Finish(task.to_string())).await;
    }

    /// Returns once everything appended before is stored.
    pub(crate) async fn flush(&self) {
        let (done, waiting) = oneshot::channel();
        self.send(Message::Flush(done)).await;
        let _ = waiting.await;
    }

    /// Wakes up after every batch that is stored.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// Whether a task appends no more lines.
    pub(crate) async fn is_finished(&self, task: &str) -> Result<bool> {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM finished_tasks WHERE task_id = ?")
                .bind(task)
                .fetch_optional(&self.db)
                .await
                .map_err(Error::database("read the logs"))?;
        Ok(found.is_some())
    }

    /// At most `limit` lines after the entry, oldest first.
    pub(crate) async fn after(
        &self,
        filter: &LogFilter,
        entry: i64,
        limit: i64,
    ) -> Result<Vec<LogRecord>> {
        sqlx::query_as(
            "SELECT * FROM logs
             WHERE entry > ?7 AND (?1 = '' OR app_id = ?1) AND (?2 = '' OR task_id = ?2)
               AND (?3 = '' OR sandbox_id = ?3) AND (?4 = 0 OR file_descriptor = ?4)
               AND (?5 = '' OR instr(data, ?5) > 0)
               AND (?8 = '' OR function_id = ?8) AND (?9 = '' OR variant_id = ?9)
               AND (?10 = '' OR call_id = ?10) AND (?11 = '' OR input_id = ?11)
             ORDER BY entry LIMIT ?6",
        )
        .bind(&filter.app)
        .bind(&filter.task)
        .bind(&filter.sandbox)
        .bind(filter.file_descriptor)
        .bind(&filter.text)
        .bind(limit)
        .bind(entry)
        .bind(&filter.function)
        .bind(&filter.variant)
        .bind(&filter.call)
        .bind(&filter.input)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("read the logs"))
    }

    /// The last `limit` lines of a time range, oldest first.
    pub(crate) async fn last(
        &self,
        filter: &LogFilter,
        (since, until): (f64, f64),
        limit: i64,
    ) -> Result<Vec<LogRecord>> {
        let mut lines: Vec<LogRecord> = sqlx::query_as(
            "SELECT * FROM logs
             WHERE timestamp >= ?7 AND timestamp < ?8
               AND (?1 = '' OR app_id = ?1) AND (?2 = '' OR task_id = ?2)
               AND (?3 = '' OR sandbox_id = ?3) AND (?4 = 0 OR file_descriptor = ?4)
               AND (?5 = '' OR instr(data, ?5) > 0)
               AND (?9 = '' OR function_id = ?9) AND (?10 = '' OR variant_id = ?10)
               AND (?11 = '' OR call_id = ?11) AND (?12 = '' OR input_id = ?12)
             ORDER BY entry DESC LIMIT ?6",
        )
        .bind(&filter.app)
        .bind(&filter.task)
        .bind(&filter.sandbox)
        .bind(filter.file_descriptor)
        .bind(&filter.text)
        .bind(limit)
        .bind(since)
        .bind(until)
        .bind(&filter.function)
        .bind(&filter.variant)
        .bind(&filter.call)
        .bind(&filter.input)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("read the logs"))?;
        lines.reverse();
        Ok(lines)
    }

    /// How many lines fell into each stretch of `bucket_secs` of a time range; empty ones left out.
    pub(crate) async fn count(
        &self,
        filter: &LogFilter,
        (since, until): (f64, f64),
        bucket_secs: u32,
    ) -> Result<Vec<LogCount>> {
        sqlx::query_as(
            "SELECT CAST((timestamp - ?6) / ?8 AS INTEGER) AS bucket, file_descriptor,
                    count(*) AS lines
             FROM logs
             WHERE timestamp >= ?6 AND timestamp < ?7
               AND (?1 = '' OR app_id = ?1) AND (?2 = '' OR task_id = ?2)
               AND (?3 = '' OR sandbox_id = ?3) AND (?4 = 0 OR file_descriptor = ?4)
               AND (?5 = '' OR instr(data, ?5) > 0)
               AND (?9 = '' OR function_id = ?9) AND (?10 = '' OR variant_id = ?10)
               AND (?11 = '' OR call_id = ?11) AND (?12 = '' OR input_id = ?12)
             GROUP BY 1, 2 ORDER BY 1",
        )
        .bind(&filter.app)
        .bind(&filter.task)
        .bind(&filter.sandbox)
        .bind(filter.file_descriptor)
        .bind(&filter.text)
        .bind(since)
        .bind(until)
        .bind(f64::from(bucket_secs.max(1)))
        .bind(&filter.function)
        .bind(&filter.variant)
        .bind(&filter.call)
        .bind(&filter.input)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("count log lines"))
    }

    /// Removes lines that are too old, or too many. Answers how many.
    pub(crate) async fn trim(&self) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM logs WHERE timestamp < ? OR entry <= (SELECT max(entry) - ? FROM logs)",
        )
        .bind(clock::now() - MAX_AGE.as_secs_f64())
        .bind(MAX_LINES)
        .execute(&self.db)
        .await
        .map_err(Error::database("trim the logs"))?;
        Ok(done.rows_affected())
    }

    async fn send(&self, message: Message) {
        // The writer ends only with the server; then nobody reads logs either.
        let _ = self.queue.send(message).await;
    }
}

/// Stores what comes, as much at once as is there.
async fn write(db: SqlitePool, mut messages: mpsc::Receiver<Message>, batches: watch::Sender<u64>) {
    let mut batch = Vec::new();
    while messages.recv_many(&mut batch, QUEUE).await > 0 {
        if let Err(error) = store(&db, &batch).await {
            tracing::warn!(%error, "log lines are lost");
        }
        batches.send_modify(|count| *count += 1);
        for message in batch.drain(..) {
            if let Message::Flush(done) = message {
                let _ = done.send(());
            }
        }
    }
}

async fn store(db: &SqlitePool, batch: &[Message]) -> Result<(), sqlx::Error> {
    let mut transaction = db.begin_with("BEGIN IMMEDIATE").await?;
    for message in batch {
        match message {
            Message::Lines(source, lines) => {
                for line in lines {
                    sqlx::query("INSERT INTO logs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
                        .bind(&source.app)
                        .bind(&source.task)
                        .bind(&source.sandbox)
                        .bind(&source.image)
                        .bind(line.from as i32)
                        .bind(line.at)
                        .bind(&line.data)
                        .bind(&source.function)
                        .bind(&source.variant)
                        .bind(&source.call)
                        .bind(&source.input)
                        .execute(&mut *transaction)
                        .await?;
                }
            }
            Message::Finish(task) => {
                sqlx::query("INSERT OR IGNORE INTO finished_tasks VALUES (?, ?)")
                    .bind(task)
                    .bind(clock::now())
                    .execute(&mut *transaction)
                    .await?;
            }
            Message::Flush(_) => {}
        }
    }
    transaction.commit().await
}
