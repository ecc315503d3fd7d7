//! Reading logs: what came after an entry, the end of a time range, counts.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use sqlx::{QueryBuilder, Sqlite};

use super::{Logs, block};
use crate::error::{Error, Result};

/// Text of one read; a reader that is far behind comes again.
const READ_BYTES: usize = 1 << 20;

/// A line as readers get it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogRecord {
    /// Grows from line to line.
    pub(crate) entry: i64,
    pub(crate) task_id: String,
    pub(crate) sandbox_id: String,
    pub(crate) image_id: String,
    pub(crate) function_id: String,
    pub(crate) call_id: String,
    pub(crate) input_id: String,
    pub(crate) file_descriptor: i32,
    pub(crate) timestamp: f64,
    pub(crate) data: String,
}

/// Which lines are asked for; empty fields match everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LogFilter {
    pub(crate) app: String,
    pub(crate) task: String,
    pub(crate) sandbox: String,
    /// A [`FileDescriptor`]; 0 for all.
    ///
    /// [`FileDescriptor`]: modal_proto::client::FileDescriptor
    pub(crate) file_descriptor: i32,
    pub(crate) text: String,
    pub(crate) function: String,
    pub(crate) variant: String,
    pub(crate) call: String,
    pub(crate) input: String,
}

/// How many lines fell into one stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogCount {
    /// The stretch's number, counted from the start of the range.
    pub(crate) bucket: i64,
    pub(crate) file_descriptor: i32,
    pub(crate) lines: i64,
}

/// A block with its source.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    last_entry: i64,
    lines: i64,
    file_descriptor: i32,
    at: f64,
    data: String,
    task_id: String,
    sandbox_id: String,
    image_id: String,
    function_id: String,
    call_id: String,
    input_id: String,
}

impl Row {
    /// The numbers and texts of its lines that contain `text`.
    fn lines<'a>(&'a self, text: &'a str) -> impl DoubleEndedIterator<Item = (i64, &'a str)> {
        let first = self.last_entry - self.lines + 1;
        let lines: Vec<_> = (first..).zip(block::lines(&self.data)).collect();
        lines.into_iter().filter(move |(_, line)| line.contains(text))
    }

    fn record(&self, entry: i64, line: &str) -> LogRecord {
        LogRecord {
            entry,
            task_id: self.task_id.clone(),
            sandbox_id: self.sandbox_id.clone(),
            image_id: self.image_id.clone(),
            function_id: self.function_id.clone(),
            call_id: self.call_id.clone(),
            input_id: self.input_id.clone(),
            file_descriptor: self.file_descriptor,
            timestamp: self.at,
            data: line.to_owned(),
        }
    }
}

impl LogFilter {
    /// A query for its blocks; conditions and an order are still to be added.
    fn select(&self) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new(
            "SELECT last_entry, lines, file_descriptor, at, data, task_id, sandbox_id, image_id,
                    function_id, call_id, input_id
             FROM blocks JOIN sources USING (source_id) WHERE true",
        );
        let equal = [
            (" AND app_id = ", &self.app),
            (" AND task_id = ", &self.task),
            (" AND sandbox_id = ", &self.sandbox),
            (" AND function_id = ", &self.function),
            (" AND call_id = ", &self.call),
            (" AND input_id = ", &self.input),
        ];
        for (condition, value) in equal {
            if !value.is_empty() {
                query.push(condition).push_bind(value.clone());
            }
        }
        if !self.variant.is_empty() {
            // A function without parameters counts as its own variant.
            query.push(" AND CASE variant_id WHEN '' THEN function_id ELSE variant_id END = ");
            query.push_bind(self.variant.clone());
        }
        if !self.task.is_empty() {
            // There is an index of it.
            query.push(" AND blocks.owner_id = (SELECT owner_id FROM owners WHERE name = ");
            query.push_bind(self.task.clone()).push(")");
        }
        if self.file_descriptor != 0 {
            query.push(" AND file_descriptor = ").push_bind(self.file_descriptor);
        }
        if !self.text.is_empty() {
            query.push(" AND instr(data, ").push_bind(self.text.clone()).push(") > 0");
        }
        query
    }
}

impl Logs {
    /// Whether a task appends no more lines.
    pub(crate) async fn is_finished(&self, task: &str) -> Result<bool> {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM owners WHERE name = ? AND finished_at IS NOT NULL")
                .bind(task)
                .fetch_optional(&self.db)
                .await
                .map_err(failed())?;
        Ok(found.is_some())
    }

    /// The app that the lines of a task are of, and the times of its first and last.
    pub(crate) async fn extent(&self, task: &str) -> Result<Option<(String, f64, f64)>> {
        sqlx::query_as(
            "SELECT app_id, min(at), max(at) FROM blocks JOIN sources USING (source_id)
             WHERE task_id = ? GROUP BY app_id ORDER BY max(at) DESC LIMIT 1",
        )
        .bind(task)
        .fetch_optional(&self.db)
        .await
        .map_err(failed())
    }

    /// Lines after the entry, oldest first: about `limit` of them if there are so many.
    pub(crate) async fn after(
        &self,
        filter: &LogFilter,
        entry: i64,
        limit: usize,
    ) -> Result<Vec<LogRecord>> {
        let mut query = filter.select();
        query.push(" AND last_entry > ").push_bind(entry).push(" ORDER BY last_entry");
        let mut rows = query.build_query_as::<Row>().fetch(&self.db);
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < limit && bytes < READ_BYTES {
            let Some(row) = rows.try_next().await.map_err(failed())? else { break };
            let new = row.lines(&filter.text).filter(|(number, _)| *number > entry);
            records.extend(new.map(|(number, line)| row.record(number, line)));
            bytes += row.data.len();
        }
        Ok(records)
    }

    /// The last `limit` lines of a time range, oldest first.
    pub(crate) async fn last(
        &self,
        filter: &LogFilter,
        (since, until): (f64, f64),
        limit: usize,
    ) -> Result<Vec<LogRecord>> {
        let mut query = filter.select();
        query.push(" AND at >= ").push_bind(since).push(" AND at < ").push_bind(until);
        query.push(" ORDER BY last_entry DESC");
        let mut rows = query.build_query_as::<Row>().fetch(&self.db);
        let mut records = Vec::new();
        while records.len() < limit {
            let Some(row) = rows.try_next().await.map_err(failed())? else { break };
            let wanted = limit - records.len();
            let newest = row.lines(&filter.text).rev().take(wanted);
            records.extend(newest.map(|(number, line)| row.record(number, line)));
        }
        records.reverse();
        Ok(records)
    }

    /// How many lines fell into each stretch of `bucket_secs` of a time range; empty ones left out.
    pub(crate) async fn count(
        &self,
        filter: &LogFilter,
        (since, until): (f64, f64),
        bucket_secs: u32,
    ) -> Result<Vec<LogCount>> {
        let mut query = filter.select();
        query.push(" AND at >= ").push_bind(since).push(" AND at < ").push_bind(until);
        let mut rows = query.build_query_as::<Row>().fetch(&self.db);
        let mut counts: BTreeMap<(i64, i32), i64> = BTreeMap::new();
        let width = f64::from(bucket_secs.max(1));
        while let Some(row) = rows.try_next().await.map_err(failed())? {
            let bucket = ((row.at - since) / width) as i64;
            let lines = match filter.text.as_str() {
                "" => row.lines,
                text => row.lines(text).count() as i64,
            };
            *counts.entry((bucket, row.file_descriptor)).or_default() += lines;
        }
        let count =
            |((bucket, file_descriptor), lines)| LogCount { bucket, file_descriptor, lines };
        Ok(counts.into_iter().map(count).collect())
    }
}

fn failed() -> impl FnOnce(sqlx::Error) -> Error {
    Error::database("read the logs")
}
