//! What functions have done in a stretch of time, from the records of inputs and containers.

use modal_proto::client::generic_result::GenericStatus;
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use crate::error::{Error, Result};
use crate::ids::FunctionId;

/// Inputs in one answer, at most.
const MOST: i64 = 20_000;

/// An input as histories show it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct PastInput {
    pub(crate) call_id: String,
    pub(crate) task_id: String,
    /// A [`GenericStatus`]; nothing while it has no end.
    pub(crate) status: Option<i32>,
    pub(crate) created_at: f64,
    pub(crate) started_at: Option<f64>,
    pub(crate) finished_at: Option<f64>,
    /// When its container was begun and ready, if this was the container's first input.
    pub(crate) enqueued_at: Option<f64>,
    pub(crate) ready_at: Option<f64>,
}

/// A container as histories show it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct PastTask {
    pub(crate) task_id: String,
    pub(crate) enqueued_at: f64,
    pub(crate) started_at: Option<f64>,
    pub(crate) finished_at: Option<f64>,
    pub(crate) status: Option<i32>,
}

/// Of which functions, and when.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub(crate) functions: Vec<FunctionId>,
    /// Seconds since 1970; inclusive.
    pub(crate) since: f64,
    /// Exclusive.
    pub(crate) until: f64,
}

/// Reads histories. Clones share the records.
#[derive(Clone)]
pub(crate) struct History {
    db: SqlitePool,
}

impl History {
    pub(super) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Inputs that came in a stretch of time, oldest first; with `newest`, only so many, the newest.
    pub(crate) async fn inputs(
        &self,
        stretch: &Stretch,
        newest: Option<u32>,
    ) -> Result<Vec<PastInput>> {
        let mut query = QueryBuilder::new(
            "SELECT i.call_id, i.task_id, i.status, i.created_at, i.started_at, i.finished_at,
                    t.enqueued_at, t.started_at AS ready_at
             FROM function_inputs AS i LEFT JOIN function_tasks AS t ON t.task_id = i.task_id
             WHERE i.created_at >= ",
        );
        query.push_bind(stretch.since).push(" AND i.created_at < ").push_bind(stretch.until);
        of(&mut query, "i.function_id", &stretch.functions);
        let limit = newest.map_or(MOST, i64::from).min(MOST);
        let order = if newest.is_some() { "DESC" } else { "ASC" };
        query.push(" ORDER BY i.created_at ").push(order).push(" LIMIT ").push_bind(limit);
        let mut inputs: Vec<PastInput> =
            query.build_query_as().fetch_all(&self.db).await.map_err(failed())?;
        if newest.is_some() {
            inputs.reverse();
        }
        Ok(inputs)
    }

    /// How many inputs came, by stretches of `bucket` seconds that begin with `since`.
    pub(crate) async fn counts(&self, stretch: &Stretch, bucket: f64) -> Result<Vec<(i64, i64)>> {
        let mut query = QueryBuilder::new("SELECT CAST((created_at - ");
        query.push_bind(stretch.since).push(") / ").push_bind(bucket);
        query.push(" AS INTEGER) AS bucket, count(*) FROM function_inputs WHERE created_at >= ");
        query.push_bind(stretch.since).push(" AND created_at < ").push_bind(stretch.until);
        of(&mut query, "function_id", &stretch.functions);
        query.push(" GROUP BY bucket ORDER BY bucket");
        query.build_query_as().fetch_all(&self.db).await.map_err(failed())
    }

    /// Containers that lived in a stretch of time.
    pub(crate) async fn tasks(&self, stretch: &Stretch) -> Result<Vec<PastTask>> {
        let mut query = QueryBuilder::new(
            "SELECT task_id, enqueued_at, started_at, finished_at, status FROM function_tasks
             WHERE enqueued_at < ",
        );
        query.push_bind(stretch.until);
        query.push(" AND (finished_at IS NULL OR finished_at >= ").push_bind(stretch.since);
        query.push(")");
        of(&mut query, "function_id", &stretch.functions);
        query.build_query_as().fetch_all(&self.db).await.map_err(failed())
    }

    /// The variants of a function, newest first.
    pub(crate) async fn variants(&self, base: &FunctionId) -> Result<Vec<FunctionId>> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT function_id FROM functions WHERE base_id = ? ORDER BY created_at DESC",
        )
        .bind(base.as_str())
        .fetch_all(&self.db)
        .await
        .map_err(failed())?;
        ids.iter().map(|id| Ok(FunctionId::parse(id)?)).collect()
    }
}

fn of(query: &mut QueryBuilder<Sqlite>, column: &str, functions: &[FunctionId]) {
    query.push(" AND ").push(column).push(" IN (");
    let mut list = query.separated(", ");
    for id in functions {
        list.push_bind(id.to_string());
    }
    query.push(")");
}

fn failed() -> impl FnOnce(sqlx::Error) -> Error {
    Error::database("read the history of functions")
}

/// What a status counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    No,
    Success,
    Timeout,
    Failure,
}

impl Ended {
    pub(crate) fn of(status: Option<i32>) -> Self {
        match status.map(|status| GenericStatus::try_from(status).unwrap_or_default()) {
            None | Some(GenericStatus::Unspecified) => Self::No,
            Some(GenericStatus::Success) => Self::Success,
            Some(GenericStatus::Timeout) => Self::Timeout,
            Some(_) => Self::Failure,
        }
    }
}
