//! What came of inputs.

use modal_proto::client::FunctionGetOutputsItem;
use prost::Message as _;

use super::{Calls, Input};
use crate::clock;
use crate::error::{Error, Result};
use crate::failpoint::{Point, reach};
use crate::function::records::decode;
use crate::ids::CallId;

/// Outputs in one answer, at most.
const MAX_OUTPUTS: i64 = 64;

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
}
