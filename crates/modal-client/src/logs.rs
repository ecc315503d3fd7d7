//! Logs: what apps, functions, containers and sandboxes printed, kept by the server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;
use prost_types::Timestamp;

use crate::{
    client::Client,
    clock,
    error::{Error, Operation, Result},
    follow::{self, Batches, Broken},
    functions::Function,
    ids::{AppId, FunctionCallId, FunctionId, TaskId},
    retry::RetryPolicy,
    rpc::{methods, status},
    sandbox::Sandbox,
};

/// The most that one request fetches.
const LIMIT: u32 = 20_000;
/// How far back a tail looks, in turn, until it has found enough.
const LOOKBACKS: [Duration; 4] = [
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
    Duration::from_secs(7 * 86_400),
    Duration::from_secs(30 * 86_400),
];
/// The lengths of the parts that a range is counted in, in seconds.
const BUCKETS: [u32; 24] = [
    2, 4, 6, 12, 20, 30, 60, 120, 180, 240, 300, 360, 600, 720, 900, 1_200, 1_800, 3_600, 7_200,
    10_800, 14_400, 28_800, 43_200, 86_400,
];
/// Parts of a range at most.
const MOST_BUCKETS: u64 = 100;
/// The longest range that the server reads.
const LONGEST_RANGE: Duration = Duration::from_secs(35 * 86_400);
const PARALLEL_FETCHES: usize = 10;
/// How long the server holds one question for more.
const POLL: Duration = Duration::from_secs(55);
/// How a stream that breaks is opened again.
const FOLLOW: RetryPolicy =
    RetryPolicy { retries: 10, first: Duration::from_millis(10), cap: Duration::from_secs(1) };

/// A piece of a log.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogEntry {
    /// The text: whole lines or parts of lines, as they came.
    pub text: String,
    /// When it was printed.
    pub at: Option<SystemTime>,
    /// Where it came from.
    pub source: LogSource,
    /// The container that printed it.
    pub container: Option<TaskId>,
    /// The function that it belongs to.
    pub function: Option<FunctionId>,
}

/// Where a piece of a log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogSource {
    /// The output of a program.
    Stdout,
    /// The error output of a program.
    Stderr,
    /// Modal itself.
    System,
}

/// The logs of an app, or of a part of it; see [`Client::logs`], [`Function::logs`] and [`Sandbox::logs`].
///
/// First what is wanted of them ([`source`](Self::source), [`search`](Self::search), [`container`](Self::container),
/// [`call`](Self::call)), then how: [`tail`](Self::tail), [`fetch`](Self::fetch) or [`follow`](Self::follow).
///
/// ```no_run
/// # async fn example(client: modal_client::Client) -> modal_client::Result<()> {
/// use futures::StreamExt as _;
///
/// let app = client.app("demo").await?;
/// for entry in client.logs(&app.id).search("error").tail(20).await? {
///     print!("{}", entry.text);
/// }
/// let mut entries = client.logs(&app.id).follow();
/// while let Some(entry) = entries.next().await {
///     print!("{}", entry?.text);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until one of its methods is awaited"]
pub struct Logs {
    client: Client,
    operation: Operation,
    app: Option<AppId>,
    function: String,
    call: String,
    task: String,
    source: Option<LogSource>,
    search: String,
}

impl Client {
    /// The logs of an app: everything that ran in it.
    pub fn logs(&self, app: &AppId) -> Logs {
        Logs::new(self, Some(app.clone()), format!("the logs of app `{app}`"))
    }
}

impl Function {
    /// What the containers of this function printed.
    pub fn logs(&self) -> Logs {
        let mut logs =
            Logs::new(self.client(), self.app(), format!("the logs of `{}`", self.name()));
        logs.function = self.id().to_string();
        logs
    }
}

impl Sandbox {
    /// What this sandbox printed, as the server keeps it: also after its end. Waits for it to be scheduled.
    pub async fn logs(&self) -> Result<Logs> {
        let object = format!("the logs of sandbox `{}`", self.id());
        let mut logs = Logs::new(self.client(), self.app().cloned(), object);
        logs.task = self.task().await?.to_string();
        Ok(logs)
    }
}

impl Logs {
    fn new(client: &Client, app: Option<AppId>, object: String) -> Self {
        Self {
            client: client.clone(),
            operation: Operation::new("read", object),
            app,
            function: String::new(),
            call: String::new(),
            task: String::new(),
            source: None,
            search: String::new(),
        }
    }

    /// Only what this container printed.
    pub fn container(mut self, container: &TaskId) -> Self {
        self.task = container.to_string();
        self
    }

    /// Only what this call printed.
    pub fn call(mut self, call: &FunctionCallId) -> Self {
        self.call = call.to_string();
        self
    }

    /// Only what came from there.
    pub fn source(mut self, source: LogSource) -> Self {
        self.source = Some(source);
        self
    }

    /// Only what contains this text.
    pub fn search(mut self, text: impl Into<String>) -> Self {
        self.search = text.into();
        self
    }

    /// The last `n` pieces, oldest first, from the last 30 days. One RPC for each step back in time: an hour, a day,
    /// a week, a month.
    pub async fn tail(&self, n: u32) -> Result<Vec<LogEntry>> {
        let now = SystemTime::now();
        let mut found = Vec::new();
        for lookback in LOOKBACKS {
            found = self.fetch_part(now - lookback, now, n.min(LIMIT)).await?;
            if found.len() >= n as usize {
                break;
            }
        }
        let surplus = found.len().saturating_sub(n as usize);
        found.drain(..surplus);
        Ok(found)
    }

    /// Everything between two moments, oldest first: counted, then fetched in parts.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is longer than 35 days or ends before it begins.
    pub async fn fetch(&self, since: SystemTime, until: SystemTime) -> Result<Vec<LogEntry>> {
        let length = until.duration_since(since).map_err(|_| {
            Error::invalid(self.operation.clone(), "the range ends before it begins")
        })?;
        if length > LONGEST_RANGE {
            return Err(Error::invalid(self.operation.clone(), "the range is longer than 35 days"));
        }
        let parts = self.parts(since, until, bucket_for(length)).await?;
        let fetches: Vec<BoxFuture<'_, Result<Vec<LogEntry>>>> = parts
            .into_iter()
            .map(|(since, until)| -> BoxFuture<'_, _> {
                Box::pin(self.fetch_part(since, until, LIMIT))
            })
            .collect();
        let fetched: Vec<Vec<LogEntry>> =
            stream::iter(fetches).buffered(PARALLEL_FETCHES).try_collect().await?;
        Ok(fetched.into_iter().flatten().collect())
    }

    /// The parts of a range in which there is anything; those with too much are cut smaller.
    fn parts(
        &self,
        since: SystemTime,
        until: SystemTime,
        bucket: u32,
    ) -> BoxFuture<'_, Result<Vec<(SystemTime, SystemTime)>>> {
        Box::pin(async move {
            let query = api::AppCountLogsRequest {
                since: Some(timestamp(since)),
                until: Some(timestamp(until)),
                bucket_secs: bucket,
                ..self.count_request()
            };
            let method = &methods::APP_COUNT_LOGS;
            let answer = self.client.call(method, &query, self.operation.clone()).await?;
            let mut parts = Vec::new();
            for counted in answer.buckets {
                let count = counted.stdout_logs + counted.stderr_logs + counted.system_logs;
                let start = counted.bucket_start_at.map_or(since, time_of).max(since);
                let end = (start + Duration::from_secs(bucket.into())).min(until);
                if count == 0 || start >= end {
                    continue;
                }
                let smaller = BUCKETS.iter().rev().find(|&&size| size < bucket);
                match smaller.filter(|_| count > LIMIT.into()) {
                    Some(&smaller) => parts.extend(self.parts(start, end, smaller).await?),
                    None => parts.push((start, end)),
                }
            }
            Ok(parts)
        })
    }

    async fn fetch_part(
        &self,
        since: SystemTime,
        until: SystemTime,
        limit: u32,
    ) -> Result<Vec<LogEntry>> {
        let query = api::AppFetchLogsRequest {
            app_id: self.app.as_ref().map(ToString::to_string).unwrap_or_default(),
            since: Some(timestamp(since)),
            until: Some(timestamp(until)),
            limit,
            source: self.descriptor(),
            function_id: self.function.clone(),
            function_call_id: self.call.clone(),
            task_id: self.task.clone(),
            search_text: self.search.clone(),
            ..Default::default()
        };
        let method = &methods::APP_FETCH_LOGS;
        let answer = self.client.call(method, &query, self.operation.clone()).await?;
        Ok(answer.batches.into_iter().flat_map(entries).collect())
    }

    fn count_request(&self) -> api::AppCountLogsRequest {
        api::AppCountLogsRequest {
            app_id: self.app.as_ref().map(ToString::to_string).unwrap_or_default(),
            task_id: self.task.clone(),
            function_id: self.function.clone(),
            function_call_id: self.call.clone(),
            search_text: self.search.clone(),
            source: self.descriptor(),
            ..Default::default()
        }
    }

    fn descriptor(&self) -> i32 {
        use api::FileDescriptor as Fd;
        let descriptor = match self.source {
            None => Fd::Unspecified,
            Some(LogSource::Stdout) => Fd::Stdout,
            Some(LogSource::Stderr) => Fd::Stderr,
            Some(LogSource::System) => Fd::Info,
        };
        descriptor.into()
    }

    /// What is printed from now on, and what the server still has of before, until the app has ended. A stream that
    /// breaks is opened again where it broke.
    pub fn follow(&self) -> BoxStream<'static, Result<LogEntry>> {
        let (logs, operation) = (self.clone(), self.operation.clone());
        let open = move |last| -> BoxFuture<'static, _> { Box::pin(connect(logs.clone(), last)) };
        let batches = follow::follow(open, FOLLOW, |batch| batch.app_done);
        let batches = batches.map_err(move |Broken { status, attempts }| {
            let rpc = methods::APP_GET_LOGS.name;
            status::into_error(operation.clone(), rpc, &status, attempts, None)
        });
        batches
            .map_ok(|batch| stream::iter(entries(batch).into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}

async fn connect(logs: Logs, last_entry_id: String) -> Result<Batches, tonic::Status> {
    let query = api::AppGetLogsRequest {
        app_id: logs.app.as_ref().map(ToString::to_string).unwrap_or_default(),
        timeout: POLL.as_secs_f32(),
        last_entry_id,
        function_id: logs.function.clone(),
        function_call_id: logs.call.clone(),
        task_id: logs.task.clone(),
        file_descriptor: logs.descriptor(),
        search_text: logs.search.clone(),
        ..Default::default()
    };
    let metadata = logs.client.metadata();
    let wire = &logs.client.shared.wire;
    Ok(wire.stream(&methods::APP_GET_LOGS, query, metadata, None).await?.boxed())
}

/// The shortest parts of which a range has not too many.
fn bucket_for(length: Duration) -> u32 {
    let fits = |&&size: &&u32| length.as_secs().div_ceil(size.into()) <= MOST_BUCKETS;
    *BUCKETS.iter().find(fits).unwrap_or(&86_400)
}

fn entries(batch: api::TaskLogsBatch) -> Vec<LogEntry> {
    let container = TaskId::try_from(batch.task_id).ok();
    let function = FunctionId::try_from(batch.function_id).ok();
    let entry = |item: api::TaskLogs| LogEntry {
        at: clock::from_unix(item.timestamp),
        source: match item.file_descriptor() {
            api::FileDescriptor::Stderr => LogSource::Stderr,
            api::FileDescriptor::Info => LogSource::System,
            _ => LogSource::Stdout,
        },
        text: item.data,
        container: container.clone(),
        function: function.clone(),
    };
    batch.items.into_iter().filter(|item| !item.data.is_empty()).map(entry).collect()
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

fn time_of(timestamp: Timestamp) -> SystemTime {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or_default();
    let nanos = u32::try_from(timestamp.nanos).unwrap_or_default();
    UNIX_EPOCH + Duration::new(seconds, nanos.min(999_999_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_counted_in_a_hundred_parts_at_most() {
        let bucket = |seconds| bucket_for(Duration::from_secs(seconds));
        assert_eq!(
            [bucket(10), bucket(300), bucket(3_600), bucket(35 * 86_400)],
            [2, 4, 60, 43_200]
        );
    }

    #[test]
    fn a_timestamp_is_the_time_that_it_was_made_of() {
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        assert_eq!(time_of(timestamp(time)), time);
    }
}
