//! `GET /projects`: the project of the keys.

use axum::extract::State;
use serde_json::{Value, json};

use crate::{auth::Full, respond::ApiError, server::App};

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
) -> Result<axum::Json<Value>, ApiError> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT id, name FROM projects WHERE id = $1")
        .bind(&scope.project_id)
        .fetch_all(&app.pool)
        .await?;
    let data: Vec<Value> =
        rows.into_iter().map(|(id, name)| json!({ "id": id, "name": name })).collect();
    Ok(axum::Json(json!({ "data": data })))
}
