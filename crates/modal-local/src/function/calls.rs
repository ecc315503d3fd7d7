//! Calls of functions: their inputs and outputs, as records.
//!
//! What a client was told is kept survives the server: inputs without an end are queued again when
//! the next server starts. Requests of the web are no records; they live in [`super::exchange`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use modal_proto::client::function_input::ArgsOneof;
use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{
    DataChunk, FunctionCallInvocationType, FunctionCallType, FunctionGetOutputsItem, FunctionInput,
};
use prost::Message as _;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::watch;

use super::records::decode;
use crate::clock;
use crate::error::{Error, Result};
use crate::failpoint::{Point, reach};
use crate::ids::{AppId, CallId, FunctionId, InputId, TaskId};

/// Outputs in one answer, at most.
const MAX_OUTPUTS: i64 = 64;
/// Chunks in one read, at most.
const MAX_CHUNKS: i64 = 64;
/// How long calls whose caller waits for them are kept.
const SYNC_LIFE: f64 = 3_600.0;
/// How long other calls and their results are kept, as on Modal.
const LIFE: f64 = 7.0 * 86_400.0;

/// One attempt to do an input.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) id: InputId,
    pub(crate) call: CallId,
    pub(crate) function: FunctionId,
    pub(crate) idx: i32,
    pub(crate) invocation: i32,
    pub(crate) input: FunctionInput,
    /// From 0; a retry is the next.
    pub(crate) attempt: u32,
    /// Whether this server tries it again if it fails; otherwise the client asks for it.
    pub(crate) retries_here: bool,
    /// How often a container was lost while it worked on this.
    pub(crate) lost: u32,
    /// A request of the web, of which there is no record.
    pub(crate) is_web: bool,
}

/// A call.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct CallRecord {
    pub(crate) call_id: String,
    pub(crate) function_id: String,
    pub(crate) app_id: String,
    invocation: i32,
    pub(crate) parent_input_id: String,
    pub(crate) retries_here: bool,
    pub(crate) created_at: f64,
    pub(crate) cancelled_at: Option<f64>,
}

/// A call that is about to be recorded.
pub(crate) struct NewCall {
    pub(crate) function: FunctionId,
    pub(crate) app: AppId,
    pub(crate) kind: FunctionCallType,
    pub(crate) invocation: FunctionCallInvocationType,
    pub(crate) parent: String,
    pub(crate) retries_here: bool,
}

/// An input as lists show it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct InputRecord {
    pub(crate) input_id: String,
    pub(crate) call_id: String,
    pub(crate) function_id: String,
    pub(crate) idx: i32,
    pub(crate) attempt: i64,
    pub(crate) status: Option<i32>,
    pub(crate) task_id: String,
    pub(crate) created_at: f64,
    pub(crate) started_at: Option<f64>,
    pub(crate) finished_at: Option<f64>,
}

#[derive(sqlx::FromRow)]
struct PendingRow {
    input_id: String,
    call_id: String,
    function_id: String,
    idx: i32,
    invocation: i32,
    retries_here: bool,
    input: Vec<u8>,
    attempt: i64,
}

const INPUT_COLUMNS: &str = "input_id, call_id, function_id, idx, attempt, status, task_id, created_at, started_at, finished_at";

/// The calls of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Calls {
    db: SqlitePool,
    watched: Arc<Mutex<HashMap<CallId, watch::Sender<u64>>>>,
}

/// Which outputs are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OutputRange {
    /// Only those after this entry.
    pub(crate) after: i64,
    /// First and last index, if only some inputs are of interest.
    pub(crate) indices: Option<(i32, i32)>,
    /// 0: as many as fit.
    pub(crate) limit: i32,
}

impl Calls {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db, watched: Arc::default() }
    }

    /// Records a call with its first inputs.
    pub(crate) async fn create(
        &self,
        call: &NewCall,
        inputs: Vec<(i32, FunctionInput)>,
    ) -> Result<(CallId, Vec<Input>)> {
        let id = CallId::random();
        let inputs =
            inputs_of(&id, call.invocation as i32, call.retries_here, &call.function, inputs);
        let insert = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT INTO function_calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)")
                .bind(id.as_str())
                .bind(call.function.as_str())
                .bind(call.app.as_str())
                .bind(call.kind as i32)
                .bind(call.invocation as i32)
                .bind(&call.parent)
                .bind(call.retries_here)
                .bind(clock::unique_now())
                .execute(&mut *transaction)
                .await?;
            insert_inputs(&mut transaction, &inputs).await?;
            reach(Point::CallWritten);
            transaction.commit().await
        };
        insert.await.map_err(Error::database("record a call"))?;
        reach(Point::CallRecorded);
        Ok((id, inputs))
    }

    /// Records further inputs of a call. An index that came before is not done twice.
    pub(crate) async fn add_inputs(
        &self,
        call: &CallRecord,
        inputs: Vec<(i32, FunctionInput)>,
    ) -> Result<Vec<Input>> {
        let id = CallId::parse(&call.call_id)?;
        let function = FunctionId::parse(&call.function_id)?;
        let inputs = inputs_of(&id, call.invocation, call.retries_here, &function, inputs);
        let insert = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            insert_inputs(&mut transaction, &inputs).await?;
            transaction.commit().await
        };
        insert.await.map_err(Error::database("record the inputs of a call"))?;
        Ok(inputs)
    }

    pub(crate) async fn get(&self, id: &CallId) -> Result<CallRecord> {
        sqlx::query_as("SELECT * FROM function_calls WHERE call_id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a call"))?
            .ok_or_else(|| Error::not_found("function call", id))
    }

    /// The calls of a function, newest first.
    pub(crate) async fn of_function(&self, id: &FunctionId) -> Result<Vec<CallRecord>> {
        sqlx::query_as(
            "SELECT * FROM function_calls WHERE function_id = ? ORDER BY created_at DESC LIMIT 100",
        )
        .bind(id.as_str())
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list calls"))
    }

    /// The calls that were made while an input was worked on.
    pub(crate) async fn children(&self, input: &str) -> Result<Vec<CallRecord>> {
        sqlx::query_as("SELECT * FROM function_calls WHERE parent_input_id = ? ORDER BY created_at")
            .bind(input)
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("list calls"))
    }

    pub(crate) async fn inputs(&self, call: &str) -> Result<Vec<InputRecord>> {
        let query =
            format!("SELECT {INPUT_COLUMNS} FROM function_inputs WHERE call_id = ? ORDER BY idx");
        sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(call)
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("list the inputs of a call"))
    }

    pub(crate) async fn input(&self, id: &str) -> Result<InputRecord> {
        let query = format!("SELECT {INPUT_COLUMNS} FROM function_inputs WHERE input_id = ?");
        sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(id)
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up an input"))?
            .ok_or_else(|| Error::not_found("input", id))
    }

    /// Inputs that have no end, oldest first: what is to be queued when a server starts.
    pub(crate) async fn pending(&self) -> Result<Vec<Input>> {
        let rows: Vec<PendingRow> = sqlx::query_as(
            "SELECT input_id, i.call_id, i.function_id, idx, invocation, retries_here, input, attempt
             FROM function_inputs AS i JOIN function_calls AS c ON c.call_id = i.call_id
             WHERE status IS NULL ORDER BY i.created_at",
        )
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list inputs"))?;
        rows.into_iter().map(PendingRow::read).collect()
    }

    /// Notes which container works on an input.
    pub(crate) async fn start(&self, input: &InputId, task: &TaskId) -> Result<()> {
        sqlx::query("UPDATE function_inputs SET task_id = ?, started_at = ? WHERE input_id = ?")
            .bind(task.as_str())
            .bind(clock::now())
            .bind(input.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("record the start of an input"))
    }

    /// Notes that an input is tried again.
    pub(crate) async fn next_attempt(&self, input: &InputId, attempt: u32) -> Result<()> {
        sqlx::query("UPDATE function_inputs SET attempt = ? WHERE input_id = ?")
            .bind(attempt)
            .bind(input.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("record a retry"))
    }

    /// Begins an input that has ended anew, as its client asks; its output is forgotten.
    pub(crate) async fn restart(
        &self,
        record: &InputRecord,
        input: FunctionInput,
        attempt: u32,
    ) -> Result<Input> {
        let call = self.get(&CallId::parse(&record.call_id)?).await?;
        let restart = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("DELETE FROM function_outputs WHERE call_id = ? AND idx = ?")
                .bind(&record.call_id)
                .bind(record.idx)
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "UPDATE function_inputs SET status = NULL, finished_at = NULL, attempt = ?, input = ?
                 WHERE input_id = ?",
            )
            .bind(attempt)
            .bind(input.encode_to_vec())
            .bind(&record.input_id)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await
        };
        restart.await.map_err(Error::database("record a retry"))?;
        Ok(Input {
            id: InputId::parse(&record.input_id)?,
            call: CallId::parse(&record.call_id)?,
            function: FunctionId::parse(&record.function_id)?,
            idx: record.idx,
            invocation: call.invocation,
            input,
            attempt,
            retries_here: call.retries_here,
            lost: 0,
            is_web: false,
        })
    }

    /// Records the end of an input; the first one stays. Answers whether this was it.
    pub(crate) async fn finish(
        &self,
        input: &Input,
        item: &FunctionGetOutputsItem,
    ) -> Result<bool> {
        let status = item.result.as_ref().map_or(0, |result| result.status);
        let finish = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            let done = sqlx::query(
                "UPDATE function_inputs SET status = ?, finished_at = ?, input = X''
                 WHERE input_id = ? AND status IS NULL",
            )
            .bind(status)
            .bind(clock::now())
            .bind(input.id.as_str())
            .execute(&mut *transaction)
            .await?;
            let is_first = done.rows_affected() == 1;
            if is_first {
                sqlx::query("INSERT INTO function_outputs VALUES (NULL, ?, ?, ?, ?)")
                    .bind(input.call.as_str())
                    .bind(input.idx)
                    .bind(item.encode_to_vec())
                    .bind(clock::now())
                    .execute(&mut *transaction)
                    .await?;
            }
            reach(Point::OutputWritten);
            transaction.commit().await?;
            Ok(is_first)
        };
        let is_first = finish.await.map_err(Error::database("record an output"))?;
        self.notify(&input.call);
        Ok(is_first)
    }

    /// Marks a call as cancelled; false if it was before.
    pub(crate) async fn cancel(&self, id: &CallId) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE function_calls SET cancelled_at = ? WHERE call_id = ? AND cancelled_at IS NULL",
        )
        .bind(clock::now())
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map_err(Error::database("cancel a call"))?;
        Ok(done.rows_affected() == 1)
    }

    /// The outputs that are there: entry and item, in the order they came.
    pub(crate) async fn outputs(
        &self,
        call: &CallId,
        range: OutputRange,
    ) -> Result<Vec<(i64, FunctionGetOutputsItem)>> {
        let (first, last) = range.indices.unwrap_or((i32::MIN, i32::MAX));
        let limit =
            if range.limit > 0 { i64::from(range.limit).min(MAX_OUTPUTS) } else { MAX_OUTPUTS };
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "SELECT entry, item FROM function_outputs
             WHERE call_id = ? AND entry > ? AND idx BETWEEN ? AND ? ORDER BY entry LIMIT ?",
        )
        .bind(call.as_str())
        .bind(range.after)
        .bind(first)
        .bind(last)
        .bind(limit)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("read outputs"))?;
        rows.into_iter().map(|(entry, item)| Ok((entry, decode(&item)?))).collect()
    }

    /// How many inputs of a call have no end.
    pub(crate) async fn unfinished(&self, call: &CallId) -> Result<i32> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM function_inputs WHERE call_id = ? AND status IS NULL",
        )
        .bind(call.as_str())
        .fetch_one(&self.db)
        .await
        .map_err(Error::database("count inputs"))?;
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// Keeps what a generator yielded. A chunk that came before stays as it was.
    pub(crate) async fn add_chunks(&self, call: &CallId, chunks: Vec<DataChunk>) -> Result<()> {
        let insert = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            for chunk in &chunks {
                sqlx::query("INSERT OR IGNORE INTO function_chunks VALUES (?, ?, ?)")
                    .bind(call.as_str())
                    .bind(i64::try_from(chunk.index).unwrap_or(i64::MAX))
                    .bind(chunk.encode_to_vec())
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        };
        insert.await.map_err(Error::database("record what a generator yielded"))?;
        self.notify(call);
        Ok(())
    }

    /// What a generator yielded after an index.
    pub(crate) async fn chunks(&self, call: &CallId, after: u64) -> Result<Vec<DataChunk>> {
        let chunks: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT chunk FROM function_chunks WHERE call_id = ? AND idx > ? ORDER BY idx LIMIT ?",
        )
        .bind(call.as_str())
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(MAX_CHUNKS)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("read what a generator yielded"))?;
        chunks.iter().map(|chunk| decode(chunk)).collect()
    }

    /// Wakes up whenever something of the call is recorded.
    pub(crate) fn watch(&self, call: &CallId) -> watch::Receiver<u64> {
        let mut watched = self.watched();
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.entry(call.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Forgets calls that nobody can want any more. Answers how many.
    pub(crate) async fn forget_old(&self) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM function_calls WHERE created_at < CASE WHEN invocation = ? THEN ? ELSE ? END
             AND NOT EXISTS (SELECT 1 FROM function_inputs AS i
                             WHERE i.call_id = function_calls.call_id AND status IS NULL)",
        )
        .bind(FunctionCallInvocationType::Sync as i32)
        .bind(clock::now() - SYNC_LIFE)
        .bind(clock::now() - LIFE)
        .execute(&self.db)
        .await
        .map_err(Error::database("forget old calls"))?;
        Ok(done.rows_affected())
    }

    fn notify(&self, call: &CallId) {
        if let Some(sender) = self.watched().get(call) {
            sender.send_modify(|count| *count += 1);
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<CallId, watch::Sender<u64>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Input {
    /// The blob that holds its arguments, if they did not fit a message.
    pub(crate) fn blob(&self) -> Option<&str> {
        match &self.input.args_oneof {
            Some(ArgsOneof::ArgsBlobId(id)) => Some(id),
            _ => None,
        }
    }
}

impl InputRecord {
    /// How it ended; unspecified while it has not.
    pub(crate) fn status(&self) -> GenericStatus {
        GenericStatus::try_from(self.status.unwrap_or_default()).unwrap_or_default()
    }
}

impl PendingRow {
    fn read(self) -> Result<Input> {
        Ok(Input {
            id: InputId::parse(&self.input_id)?,
            call: CallId::parse(&self.call_id)?,
            function: FunctionId::parse(&self.function_id)?,
            idx: self.idx,
            invocation: self.invocation,
            input: decode(&self.input)?,
            attempt: u32::try_from(self.attempt).unwrap_or(0),
            retries_here: self.retries_here,
            lost: 0,
            is_web: false,
        })
    }
}

fn inputs_of(
    call: &CallId,
    invocation: i32,
    retries_here: bool,
    function: &FunctionId,
    inputs: Vec<(i32, FunctionInput)>,
) -> Vec<Input> {
    let input = |(idx, input)| Input {
        id: InputId::random(),
        call: call.clone(),
        function: function.clone(),
        idx,
        invocation,
        input,
        attempt: 0,
        retries_here,
        lost: 0,
        is_web: false,
    };
    inputs.into_iter().map(input).collect()
}

async fn insert_inputs(
    connection: &mut SqliteConnection,
    inputs: &[Input],
) -> Result<(), sqlx::Error> {
    for input in inputs {
        sqlx::query(
            "INSERT INTO function_inputs
             (input_id, call_id, function_id, idx, input, attempt, task_id, created_at)
             VALUES (?, ?, ?, ?, ?, 0, '', ?)",
        )
        .bind(input.id.as_str())
        .bind(input.call.as_str())
        .bind(input.function.as_str())
        .bind(input.idx)
        .bind(input.input.encode_to_vec())
        .bind(clock::unique_now())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// How long a poll may be held: what clients ask for, at most this.
pub(crate) fn poll_time(seconds: f32) -> Duration {
    const LONGEST: f32 = 60.0;
    Duration::from_secs_f32(if seconds > 0.0 { seconds.min(LONGEST) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use modal_proto::client::GenericResult;

    use super::*;

    fn call() -> NewCall {
        NewCall {
            function: FunctionId::random(),
            app: AppId::random(),
            kind: FunctionCallType::Map,
            invocation: FunctionCallInvocationType::Sync,
            parent: String::new(),
            retries_here: true,
        }
    }

    fn output(input: &Input, status: GenericStatus) -> FunctionGetOutputsItem {
        FunctionGetOutputsItem {
            idx: input.idx,
            input_id: input.id.to_string(),
            result: Some(GenericResult { status: status.into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[sqlx::test]
    async fn outputs_come_once_in_order_and_wake_who_waits(db: SqlitePool) {
        let calls = Calls::new(db);
        let inputs = (0..3).map(|idx| (idx, FunctionInput::default())).collect();
        let (id, inputs) = calls.create(&call(), inputs).await.unwrap();
        let mut watch = calls.watch(&id);
        watch.mark_unchanged();
        for input in [&inputs[2], &inputs[0]] {
            let item = output(input, GenericStatus::Success);
            assert!(calls.finish(input, &item).await.unwrap());
            assert!(!calls.finish(input, &item).await.unwrap(), "the first end stays");
        }
        assert!(watch.has_changed().unwrap());
        let all = calls.outputs(&id, OutputRange::default()).await.unwrap();
        assert_eq!(all.iter().map(|(_, item)| item.idx).collect::<Vec<_>>(), [2, 0]);
        let range = OutputRange { after: all[0].0, ..Default::default() };
        assert_eq!(calls.outputs(&id, range).await.unwrap().len(), 1);
        let range = OutputRange { indices: Some((2, 2)), ..Default::default() };
        assert_eq!(calls.outputs(&id, range).await.unwrap()[0].1.idx, 2);
        assert_eq!(calls.unfinished(&id).await.unwrap(), 1);
        assert_eq!(calls.pending().await.unwrap()[0].id, inputs[1].id);
    }

    #[sqlx::test]
    async fn an_input_that_is_begun_anew_has_no_output(db: SqlitePool) {
        let calls = Calls::new(db);
        let (id, inputs) =
            calls.create(&call(), vec![(0, FunctionInput::default())]).await.unwrap();
        calls.finish(&inputs[0], &output(&inputs[0], GenericStatus::Failure)).await.unwrap();
        let record = calls.input(inputs[0].id.as_str()).await.unwrap();
        let again = calls.restart(&record, FunctionInput::default(), 1).await.unwrap();
        assert_eq!((again.attempt, &again.call), (1, &id));
        assert!(calls.outputs(&id, OutputRange::default()).await.unwrap().is_empty());
        assert_eq!(calls.pending().await.unwrap()[0].attempt, 1);
    }

    #[sqlx::test]
    async fn chunks_that_come_twice_are_kept_once(db: SqlitePool) {
        let calls = Calls::new(db);
        let (id, _) = calls.create(&call(), vec![(0, FunctionInput::default())]).await.unwrap();
        let chunk = |index| DataChunk { index, ..Default::default() };
        calls.add_chunks(&id, vec![chunk(1), chunk(2)]).await.unwrap();
        calls.add_chunks(&id, vec![chunk(2), chunk(3)]).await.unwrap();
        let after = calls.chunks(&id, 1).await.unwrap();
        assert_eq!(after.iter().map(|chunk| chunk.index).collect::<Vec<_>>(), [2, 3]);
    }
}
