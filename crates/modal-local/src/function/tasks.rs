//! Containers in the database: what is known of them after they ended.

use modal_proto::client::GenericResult;
use modal_proto::client::generic_result::GenericStatus;
use sqlx::SqlitePool;

use super::task::Task;
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::TaskId;

/// A container of a function, live or ended.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct TaskRecord {
    pub(crate) task_id: String,
    pub(crate) function_id: String,
    pub(crate) app_id: String,
    pub(crate) enqueued_at: f64,
    pub(crate) started_at: Option<f64>,
    pub(crate) finished_at: Option<f64>,
    pub(crate) status: Option<i32>,
    pub(crate) reason: Option<String>,
}

/// The table of containers. Clones share it.
#[derive(Clone)]
pub(crate) struct TaskRecords {
    db: SqlitePool,
}

impl TaskRecords {
    /// Gives an end to the containers of an earlier server that was killed.
    pub(crate) async fn open(db: SqlitePool) -> Result<Self> {
        sqlx::query(
            "UPDATE function_tasks SET finished_at = ?, status = ?, reason = ? WHERE finished_at IS NULL",
        )
        .bind(clock::now())
        .bind(GenericStatus::InternalFailure as i32)
        .bind("the local server was killed while the container ran")
        .execute(&db)
        .await
        .map_err(Error::database("record the ends of containers"))?;
        Ok(Self { db })
    }

    pub(crate) async fn get(&self, id: &TaskId) -> Result<TaskRecord> {
        sqlx::query_as("SELECT * FROM function_tasks WHERE task_id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a container"))?
            .ok_or_else(|| Error::not_found("task", id))
    }

    /// A container is about to be made. Records of containers are for lists: a failure is no more
    /// than a gap there.
    pub(crate) async fn begin(&self, task: &Task) {
        let done = sqlx::query(
            "INSERT INTO function_tasks (task_id, function_id, app_id, enqueued_at) VALUES (?, ?, ?, ?)",
        )
        .bind(task.id.as_str())
        .bind(task.spec.id.as_str())
        .bind(task.spec.app.as_str())
        .bind(task.enqueued_at)
        .execute(&self.db)
        .await;
        if let Err(error) = done {
            tracing::warn!(%error, task = %task.id, "a container is not recorded");
        }
    }

    pub(crate) async fn end(&self, task: &Task, result: &GenericResult) {
        let done = sqlx::query(
            "UPDATE function_tasks SET started_at = ?, finished_at = ?, status = ?, reason = ?
             WHERE task_id = ?",
        )
        .bind(task.ready_at())
        .bind(clock::now())
        .bind(result.status)
        .bind(&result.exception)
        .bind(task.id.as_str())
        .execute(&self.db)
        .await;
        if let Err(error) = done {
            tracing::warn!(%error, task = %task.id, "the end of a container is not recorded");
        }
    }
}
