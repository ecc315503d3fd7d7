//! What calls were made with.

use modal_proto::client::FunctionInput;
use modal_proto::client::function_input::ArgsOneof;
use modal_proto::client::generic_result::GenericStatus;
use prost::Message;
use sqlx::SqliteConnection;

use super::{CallRecord, Calls};
use crate::clock;
use crate::error::{Error, Result};
use crate::function::records::decode;
use crate::idempotency::remember;
use crate::ids::{CallId, FunctionId, InputId, TaskId};

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

impl Calls {
    /// Records further inputs of a call. An index that came before is not done twice.
    pub(crate) async fn add_inputs<M: Message>(
        &self,
        call: &CallRecord,
        inputs: Vec<(i32, FunctionInput)>,
        answer: impl FnOnce(&[Input]) -> M,
    ) -> Result<(M, Vec<Input>)> {
        let id = CallId::parse(&call.call_id)?;
        let function = FunctionId::parse(&call.function_id)?;
        let inputs = inputs_of(&id, call.invocation, call.retries_here, &function, inputs);
        let answer = answer(&inputs);
        let insert = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            insert_inputs(&mut transaction, &inputs).await?;
            remember(&mut transaction, "function_put_inputs", &answer).await?;
            transaction.commit().await
        };
        insert.await.map_err(Error::database("record the inputs of a call"))?;
        Ok((answer, inputs))
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

    /// An input that has ended, as it is begun anew with [`restart`](Self::restart).
    pub(crate) async fn again(
        &self,
        record: &InputRecord,
        input: FunctionInput,
        attempt: u32,
    ) -> Result<Input> {
        let call = self.get(&CallId::parse(&record.call_id)?).await?;
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

    /// Begins inputs that have ended anew, as their client asks; their outputs are forgotten.
    pub(crate) async fn restart(&self, inputs: &[Input], answer: &impl Message) -> Result<()> {
        let restart = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            for input in inputs {
                sqlx::query("DELETE FROM function_outputs WHERE call_id = ? AND idx = ?")
                    .bind(input.call.as_str())
                    .bind(input.idx)
                    .execute(&mut *transaction)
                    .await?;
                sqlx::query(
                    "UPDATE function_inputs SET status = NULL, finished_at = NULL, attempt = ?,
                     input = ? WHERE input_id = ?",
                )
                .bind(input.attempt)
                .bind(input.input.encode_to_vec())
                .bind(input.id.as_str())
                .execute(&mut *transaction)
                .await?;
            }
            remember(&mut transaction, "function_retry_inputs", answer).await?;
            transaction.commit().await
        };
        restart.await.map_err(Error::database("record a retry"))
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

pub(super) fn inputs_of(
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

pub(super) async fn insert_inputs(
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
