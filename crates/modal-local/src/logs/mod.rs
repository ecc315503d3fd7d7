//! The log of every app: lines of its sandboxes and image builds, in the order they came.
//!
//! Logs lie in a database file of their own: what programs print must never hold up the records.
//! One task writes, many lines a row; whoever appends waits when it falls behind. What one task or
//! build may keep is bounded: of a longer log the middle goes, and a line says how much that was.
//! Followers are woken after each batch.

mod block;
mod database;
mod import;
mod reader;
mod trim;
mod writer;

use modal_proto::client::FileDescriptor;
use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::block::{LogLine, MAX_BLOCK};
pub(crate) use self::reader::{LogFilter, LogRecord};
pub(crate) use self::trim::{Retention, Trimmed};
use self::writer::{Message, Writer};
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{AppId, ImageId, SandboxId, TaskId};
use crate::state::State;

/// Messages that may wait for the writer.
const QUEUE: usize = 256;

/// Whom lines are of; empty where it does not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
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

impl Source {
    /// A sandbox's.
    pub(crate) fn sandbox(app: &AppId, task: &TaskId, sandbox: &SandboxId) -> Self {
        Self {
            app: app.to_string(),
            task: task.to_string(),
            sandbox: sandbox.to_string(),
            ..Self::default()
        }
    }

    /// Who shares one bounded room with all other lines of theirs.
    fn owner(&self) -> &str {
        if self.task.is_empty() { &self.image } else { &self.task }
    }
}

/// The logs of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Logs {
    db: SqlitePool,
    queue: mpsc::Sender<Message>,
    written: watch::Receiver<u64>,
}

impl Logs {
    /// Opens the logs, takes over lines that an earlier version kept among the records, and starts
    /// the writer.
    pub(crate) async fn open(state: &State) -> Result<Self> {
        let db = database::open(&state.dir.log_database()).await?;
        let mut writer = Writer::new(db.clone()).await?;
        import::from_records(&state.db, &mut writer).await?;
        let (queue, messages) = mpsc::channel(QUEUE);
        let (batches, written) = watch::channel(0);
        tokio::spawn(writer.run(messages, batches));
        Ok(Self { db, queue, written })
    }

    /// Appends lines of a sandbox.
    pub(crate) async fn append_task(
        &self,
        app: &AppId,
        task: &TaskId,
        sandbox: &SandboxId,
        lines: Vec<LogLine>,
    ) {
        self.append(Source::sandbox(app, task, sandbox), lines).await;
    }

    /// Appends lines of whoever it is.
    pub(crate) async fn append(&self, source: Source, lines: Vec<LogLine>) {
        self.send(Message::Lines(source, lines)).await;
    }

    /// Appends a sentence of this server about a task, for who reads the log; programs' readers do
    /// not get it.
    pub(crate) async fn say(&self, source: Source, text: impl Into<String>) {
        let data = format!("{}\n", text.into());
        let line = LogLine { data, from: FileDescriptor::Info, at: clock::now() };
        self.append(source, vec![line]).await;
    }

    /// Appends lines of an image build that an app asked for.
    pub(crate) async fn append_build(&self, app: &AppId, image: &ImageId, lines: Vec<LogLine>) {
        let task = Self::builder_of(image);
        let (app, image) = (app.to_string(), image.to_string());
        self.append(Source { app, task: task.clone(), image, ..Source::default() }, lines).await;
        let (done, _) = oneshot::channel();
        self.send(Message::Finish(task, done)).await;
    }

    /// The task that clients find the log of a build by.
    pub(crate) fn builder_of(image: &ImageId) -> String {
        let id = image.as_str();
        format!("{}{}", TaskId::PREFIX, id.strip_prefix(ImageId::PREFIX).unwrap_or(id))
    }

    /// Says that a task appends no more: who follows it comes to an end. Returns once all of it is
    /// stored, so that nobody hears of an end whose last line is missing.
    pub(crate) async fn finish_task(&self, task: &TaskId) {
        let (done, waiting) = oneshot::channel();
        self.send(Message::Finish(task.to_string(), done)).await;
        let _ = waiting.await;
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

    /// Removes what is too old or too much, and gives the room back to the disk.
    pub(crate) async fn trim(&self, keep: Retention) -> Result<Trimmed> {
        let (done, waiting) = oneshot::channel();
        self.send(Message::Trim(keep, done)).await;
        waiting.await.map_err(|_| Error::Database {
            operation: "trim the logs",
            source: "the writer of the logs has ended".into(),
        })?
    }

    async fn send(&self, message: Message) {
        // The writer ends only with the server; then nobody reads logs either.
        let _ = self.queue.send(message).await;
    }
}

#[cfg(test)]
mod tests;
