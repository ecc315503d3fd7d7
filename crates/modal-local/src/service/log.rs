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
use crate::function::container::WAITS_FOR_A_PERSON;
use crate::ids::{AppId, TaskId};
use crate::logs::{LogFilter, LogRecord};

/// Lines read at once while following.
const CHUNK: usize = 1_000;
/// Most lines of one fetch.
const MAX_FETCH: usize = 20_000;
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
            function: request.function_id.clone(),
            variant: request.parametrized_function_id.clone(),
            call: request.function_call_id.clone(),
            input: request.input_id.clone(),
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
            for batch in batches(lines, |line| self.asks_for_a_person(line)) {
                if sender.send(Ok(batch)).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }

    /// Whether a line says that a program waits for a person, which it still does.
    fn asks_for_a_person(&self, line: &LogRecord) -> bool {
        let task = || TaskId::parse(&line.task_id).ok();
        line.data == WAITS_FOR_A_PERSON
            && line.file_descriptor == FileDescriptor::Info as i32
            && task().is_some_and(|task| self.ctx.functions.find_task(&task).is_some())
    }

    /// Whether no more lines can come.
    async fn has_ended(&self) -> Result<bool> {
        if !self.filter.task.is_empty() && self.ctx.logs.is_finished(&self.filter.task).await? {
            return Ok(true);
        }
        if self.filter.app.is_empty() {
            return Ok(false);
        }
        let app = AppId::parse(&self.filter.app)?;
        // Containers of a stopped app may still print while they clear up.
        Ok(self.ctx.apps.get(&app).await?.is_stopped() && self.ctx.functions.running_in(&app) == 0)
    }
}

pub(super) async fn app_fetch_logs(
    ctx: &Ctx,
    request: AppFetchLogsRequest,
) -> Result<AppFetchLogsResponse, Status> {
    let limit = match usize::try_from(request.limit) {
        Ok(0) | Err(_) => MAX_FETCH,
        Ok(limit) => limit.min(MAX_FETCH),
    };
    let range = range(request.since.as_ref(), request.until.as_ref());
    let filter = LogFilter {
        app: request.app_id,
        task: request.task_id,
        sandbox: request.sandbox_id,
        file_descriptor: request.source,
        text: request.search_text,
        function: request.function_id,
        variant: request.parametrized_function_id,
        call: request.function_call_id,
        input: String::new(),
    };
    let lines = ctx.logs.last(&filter, range, limit).await?;
    Ok(AppFetchLogsResponse { batches: batches(lines, |_| false) })
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
        function: request.function_id,
        variant: request.parametrized_function_id,
        call: request.function_call_id,
        input: String::new(),
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

/// Neighbouring lines of one task, sandbox and image go into one batch, named by its last line. A line
/// that asks for a person at the terminal is a batch of its own that says where to send what is typed.
fn batches(
    lines: Vec<LogRecord>,
    asks_for_a_person: impl Fn(&LogRecord) -> bool,
) -> Vec<TaskLogsBatch> {
    let mut batches: Vec<TaskLogsBatch> = Vec::new();
    for line in lines {
        let asks = asks_for_a_person(&line);
        let fits = |batch: &TaskLogsBatch| {
            batch.task_id == line.task_id
                && batch.sandbox_id == line.sandbox_id
                && batch.image_id == line.image_id
                && batch.function_id == line.function_id
                && batch.input_id == line.input_id
                && batch.pty_exec_id.is_empty()
                && !asks
        };
        if !batches.last().is_some_and(fits) {
            batches.push(TaskLogsBatch {
                task_id: line.task_id.clone(),
                sandbox_id: line.sandbox_id.clone(),
                image_id: line.image_id.clone(),
                function_id: line.function_id.clone(),
                root_function_id: line.function_id.clone(),
                input_id: line.input_id.clone(),
                ..TaskLogsBatch::default()
            });
        }
        if let Some(batch) = batches.last_mut() {
            batch.entry_id = format!("{}-0", line.entry);
            if asks {
                batch.pty_exec_id = line.task_id;
            } else {
                batch.items.push(item(line));
            }
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
        function_call_id: line.call_id,
        input_id: line.input_id,
        ..TaskLogs::default()
    }
}

#[cfg(test)]
mod tests {
    use modal_proto::client::AppGetOrCreateRequest;

    use super::*;
    use crate::ids::SandboxId;
    use crate::logs::LogLine;
    use crate::server::ServerConfig;
    use crate::state_dir::StateDir;

    struct Fixture {
        ctx: Ctx,
        app: AppId,
        task: TaskId,
        sandbox: SandboxId,
        _dir: tempfile::TempDir,
    }

    async fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let config = ServerConfig::new(StateDir::new(dir.path()));
        let ctx = Ctx::open(config, "http://127.0.0.1:1".to_owned()).await.unwrap();
        let request = AppGetOrCreateRequest {
            app_name: "box".to_owned(),
            object_creation_type: 1,
            ..Default::default()
        };
        let app = crate::service::app::app_get_or_create(&ctx, request).await.unwrap().app_id;
        let app = AppId::parse(&app).unwrap();
        Fixture { ctx, app, task: TaskId::random_v2(), sandbox: SandboxId::random_v2(), _dir: dir }
    }

    impl Fixture {
        async fn print(&self, lines: &[(&str, f64)]) {
            let line = |(data, at): &(&str, f64)| LogLine {
                data: (*data).to_owned(),
                from: FileDescriptor::Stdout,
                at: *at,
            };
            let lines = lines.iter().map(line).collect();
            self.ctx.logs.append_task(&self.app, &self.task, &self.sandbox, lines).await;
        }

        fn follow(&self, timeout: f32, last_entry_id: &str) -> AppGetLogsRequest {
            AppGetLogsRequest {
                app_id: self.app.to_string(),
                task_id: self.task.to_string(),
                timeout,
                last_entry_id: last_entry_id.to_owned(),
                ..Default::default()
            }
        }
    }

    fn lines(batches: &[TaskLogsBatch]) -> Vec<&str> {
        batches.iter().flat_map(|it| &it.items).map(|it| it.data.as_str()).collect()
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_there_what_comes_and_the_end() {
        let it = fixture().await;
        it.print(&[("one\n", 1.0)]).await;
        let mut logs = app_get_logs(&it.ctx, it.follow(55.0, "")).await.unwrap();
        let first = logs.next().await.unwrap().unwrap();
        assert_eq!(lines(std::slice::from_ref(&first)), ["one\n"]);
        it.print(&[("two\n", 2.0)]).await;
        it.ctx.logs.finish_task(&it.task).await;
        let rest: Vec<_> = logs.map(Result::unwrap).collect().await;
        assert_eq!(lines(&rest), ["two\n"]);
        assert!(rest.last().unwrap().app_done);
        let again = app_get_logs(&it.ctx, it.follow(55.0, &first.entry_id)).await.unwrap();
        let again: Vec<_> = again.map(Result::unwrap).collect().await;
        assert_eq!(lines(&again), ["two\n"], "it goes on where the reader was");
    }

    #[tokio::test]
    async fn a_fetch_gives_the_last_lines_of_a_time_and_a_count_where_they_are() {
        let it = fixture().await;
        it.print(&[("a\n", 100.0), ("b\n", 101.0), ("c\n", 110.0), ("d\n", 200.0)]).await;
        it.ctx.logs.flush().await;
        let fetch = |since, until, limit| AppFetchLogsRequest {
            app_id: it.app.to_string(),
            since: Some(clock::timestamp(since)),
            until: Some(clock::timestamp(until)),
            limit,
            ..Default::default()
        };
        let got = app_fetch_logs(&it.ctx, fetch(100.0, 200.0, 2)).await.unwrap();
        assert_eq!(lines(&got.batches), ["b\n", "c\n"]);
        let got = app_fetch_logs(&it.ctx, fetch(0.0, 1_000.0, 0)).await.unwrap();
        assert_eq!(lines(&got.batches), ["a\n", "b\n", "c\n", "d\n"]);
        let count = AppCountLogsRequest {
            app_id: it.app.to_string(),
            since: Some(clock::timestamp(99.5)),
            until: Some(clock::timestamp(150.0)),
            bucket_secs: 10,
            ..Default::default()
        };
        let buckets = app_count_logs(&it.ctx, count).await.unwrap().buckets;
        let starts = |bucket: &LogBucket| clock::seconds(bucket.bucket_start_at.as_ref().unwrap());
        let counts: Vec<_> = buckets.iter().map(|it| (starts(it), it.stdout_logs)).collect();
        assert_eq!(counts, [(99.5, 2), (109.5, 1)]);
    }

    #[tokio::test]
    async fn logs_of_nothing_are_refused() {
        let it = fixture().await;
        let status = |request| async {
            app_get_logs(&it.ctx, request).await.err().map(|status| status.code())
        };
        let nothing = AppGetLogsRequest::default();
        assert_eq!(status(nothing).await, Some(tonic::Code::InvalidArgument));
        let unknown = AppGetLogsRequest { app_id: "ap-x".to_owned(), ..Default::default() };
        assert_eq!(status(unknown).await, Some(tonic::Code::NotFound));
        assert_eq!(status(it.follow(1.0, "x")).await, Some(tonic::Code::InvalidArgument));
    }
}
