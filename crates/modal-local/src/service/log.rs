//! RPCs of logs: follow them, fetch a stretch, count lines.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use modal_proto::client::app_count_logs_response::LogBucket;
use modal_proto::client::{
    AppCountLogsRequest, AppCountLogsResponse, AppFetchLogsRequest, AppFetchLogsResponse,
    AppGetLogsRequest, FileDescriptor, TaskLogs, TaskLogsBatch,
};
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::BoxStream;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::AppId;
use crate::logs::{LogFilter, LogRecord};

/// Lines read at once while following.
const CHUNK: i64 = 1_000;
/// Most lines of one fetch.
const MAX_FETCH: i64 = 20_000;
/// Longest that one call follows; clients ask for 55 seconds and come again.
const MAX_FOLLOW: f32 = 600.0;
/// Sandboxes and apps end without a line; this is how often a follower looks.
const END_CHECK: Duration = Duration::from_millis(500);

/// Sends what is there after `last_entry_id`, then what comes, until the time is over or nothing
/// more can come, which a batch with `app_done` says.
pub(super) async fn app_get_logs(
    ctx: &Ctx,
    request: AppGetLogsRequest,
) -> Result<BoxStream<TaskLogsBatch>, Status> {
    let follower = Follower::new(ctx, &request).await?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(error) = follower.run(&sender).await {
            let _ = sender.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

struct Follower {
    ctx: Ctx,
    filter: LogFilter,
    cursor: i64,
    until: Instant,
}

impl Follower {
    async fn new(ctx: &Ctx, request: &AppGetLogsRequest) -> Result<Self> {
        if !request.app_id.is_empty() {
            ctx.apps.get(&AppId::parse(&request.app_id)?).await?;
        } else if request.task_id.is_empty() && request.sandbox_id.is_empty() {
            return Err(Error::invalid("logs need an app, a task or a sandbox"));
        }
        let cursor = match request.last_entry_id.as_str() {
            "" => 0,
            entry => entry
                .split('-')
                .next()
                .and_then(|entry| entry.parse().ok())
                .ok_or_else(|| Error::invalid(format!("{entry:?} is no entry of a log")))?,
        };
        let timeout = if request.timeout > 0.0 { request.timeout.min(MAX_FOLLOW) } else { 0.0 };
        let filter = LogFilter {
            app: request.app_id.clone(),
            task: request.task_id.clone(),
            sandbox: request.sandbox_id.clone(),
            file_descriptor: request.file_descriptor,
            text: request.search_text.clone(),
        };
        let until = Instant::now() + Duration::from_secs_f32(timeout);
        Ok(Self { ctx: ctx.clone(), filter, cursor, until })
    }

    async fn run(mut self, sender: &mpsc::Sender<Result<TaskLogsBatch, Status>>) -> Result<()> {
        let mut written = self.ctx.logs.written();
        loop {
            // In this order: what was written before the end is seen after it.
            let ended = self.has_ended().await?;
            written.mark_unchanged();
            if !self.send_new(sender).await? {
                return Ok(());
            }
            if ended {
                let done = TaskLogsBatch { app_done: true, ..TaskLogsBatch::default() };
                let _ = sender.send(Ok(done)).await;
                return Ok(());
            }
            tokio::select! {
                _ = written.changed() => {}
                () = tokio::time::sleep(END_CHECK) => {}
                () = tokio::time::sleep_until(self.until) => return Ok(()),
                () = sender.closed() => return Ok(()),
            }
        }
    }

    /// Sends what is there; false if the reader is gone.
    async fn send_new(
        &mut self,
        sender: &mpsc::Sender<Result<TaskLogsBatch, Status>>,
    ) -> Result<bool> {
        loop {
            let lines = self.ctx.logs.after(&self.filter, self.cursor, CHUNK).await?;
            let Some(last) = lines.last() else { return Ok(true) };
            self.cursor = last.entry;
            for batch in batches(lines) {
                if sender.send(Ok(batch)).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }

    /// Whether no more lines can come.
    async fn has_ended(&self) -> Result<bool> {
        if !self.filter.task.is_empty() && self.ctx.logs.is_finished(&self.filter.task).await? {
            return Ok(true);
        }
        if self.filter.app.is_empty() {
            return Ok(false);
        }
        Ok(self.ctx.apps.get(&AppId::parse(&self.filter.app)?).await?.is_stopped())
    }
}

pub(super) async fn app_fetch_logs(
    ctx: &Ctx,
    request: AppFetchLogsRequest,
) -> Result<AppFetchLogsResponse, Status> {
    let limit = match i64::from(request.limit) {
        0 => MAX_FETCH,
        limit => limit.min(MAX_FETCH),
    };
    let range = range(request.since.as_ref(), request.until.as_ref());
    let filter = LogFilter {
        app: request.app_id,
        task: request.task_id,
        sandbox: request.sandbox_id,
        file_descriptor: request.source,
        text: request.search_text,
    };
    let lines = ctx.logs.last(&filter, range, limit).await?;
    Ok(AppFetchLogsResponse { batches: batches(lines) })
}

pub(super) async fn app_count_logs(
    ctx: &Ctx,
    request: AppCountLogsRequest,
) -> Result<AppCountLogsResponse, Status> {
    let range = range(request.since.as_ref(), request.until.as_ref());
    let filter = LogFilter {
        app: request.app_id.clone(),
        task: request.task_id,
        sandbox: request.sandbox_id,
        file_descriptor: request.source,
        text: request.search_text,
    };
    let width = request.bucket_secs.max(1);
    let mut buckets: BTreeMap<i64, LogBucket> = BTreeMap::new();
    for count in ctx.logs.count(&filter, range, width).await? {
        let bucket = buckets.entry(count.bucket).or_default();
        let start = range.0 + count.bucket as f64 * f64::from(width);
        bucket.bucket_start_at = Some(clock::timestamp(start));
        let lines = u64::try_from(count.lines).unwrap_or(0);
        match FileDescriptor::try_from(count.file_descriptor) {
            Ok(FileDescriptor::Stdout) => bucket.stdout_logs += lines,
            Ok(FileDescriptor::Stderr) => bucket.stderr_logs += lines,
            _ => bucket.system_logs += lines,
        }
    }
    Ok(AppCountLogsResponse { app_id: request.app_id, buckets: buckets.into_values().collect() })
}

fn range(since: Option<&Timestamp>, until: Option<&Timestamp>) -> (f64, f64) {
    (since.map_or(0.0, clock::seconds), until.map_or(f64::MAX, clock::seconds))
}

/// Neighbouring lines of one task, sandbox and image go into one batch, named by its last line.
fn batches(lines: Vec<LogRecord>) -> Vec<TaskLogsBatch> {
    let mut batches: Vec<TaskLogsBatch> = Vec::new();
    for line in lines {
        let fits = |batch: &TaskLogsBatch| {
            batch.task_id == line.task_id
                && batch.sandbox_id == line.sandbox_id
                && batch.image_id == line.image_id
        };
        if !batches.last().is_some_and(fits) {
            batches.push(TaskLogsBatch {
                task_id: line.task_id.clone(),
                sandbox_id: line.sandbox_id.clone(),
                image_id: line.image_id.clone(),
                ..TaskLogsBatch::default()
            });
        }
        if let Some(batch) = batches.last_mut() {
            batch.entry_id = format!("{}-0", line.entry);
            batch.items.push(item(line));
        }
    }
    batches
}

fn item(line: LogRecord) -> TaskLogs {
    TaskLogs {
        data: line.data,
        timestamp: line.timestamp,
        timestamp_ns: (line.timestamp * 1e9) as u64,
        file_descriptor: line.file_descriptor,
        ..TaskLogs::default()
    }
}
