//! Calls themselves.

use modal_proto::client::{FunctionCallInvocationType, FunctionCallType, FunctionInput};

use prost::Message;

use super::Calls;
use super::input::{Input, inputs_of, insert_inputs};
use crate::clock;
use crate::error::{Error, Result};
use crate::failpoint::{Point, reach};
use crate::idempotency::remember;
use crate::ids::{AppId, CallId, FunctionId};

/// How long calls whose caller waits for them are kept.
const SYNC_LIFE: f64 = 3_600.0;
/// How long other calls and their results are kept, as on Modal.
const LIFE: f64 = 7.0 * 86_400.0;

/// A call.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct CallRecord {
    pub(crate) call_id: String,
    pub(crate) function_id: String,
    pub(crate) app_id: String,
    pub(super) invocation: i32,
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

impl CallRecord {
    /// Whether somebody waits for its results.
    pub(crate) fn invocation(&self) -> FunctionCallInvocationType {
        FunctionCallInvocationType::try_from(self.invocation).unwrap_or_default()
    }
}

impl Calls {
    /// Records a call with its first inputs, and what its client is answered.
    pub(crate) async fn create<M: Message>(
        &self,
        call: &NewCall,
        inputs: Vec<(i32, FunctionInput)>,
        answer: impl FnOnce(&CallId, &[Input]) -> M,
    ) -> Result<(M, Vec<Input>)> {
        let id = CallId::random();
        let inputs =
            inputs_of(&id, call.invocation as i32, call.retries_here, &call.function, inputs);
        let answer = answer(&id, &inputs);
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
            remember(&mut transaction, "function_map", &answer).await?;
            reach(Point::CallWritten);
            transaction.commit().await
        };
        insert.await.map_err(Error::database("record a call"))?;
        reach(Point::CallRecorded);
        Ok((answer, inputs))
    }

    /// Records a call that no client waits to hear of.
    pub(crate) async fn begin(
        &self,
        call: &NewCall,
        inputs: Vec<(i32, FunctionInput)>,
    ) -> Result<(CallId, Vec<Input>)> {
        let id = |id: &CallId, _: &[Input]| id.to_string();
        let (id, inputs) = self.create(call, inputs, id).await?;
        Ok((CallId::parse(&id)?, inputs))
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
}
