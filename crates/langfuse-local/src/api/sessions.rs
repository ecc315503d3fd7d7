//! `GET /sessions`, `GET /sessions/{id}`.

use axum::extract::{Path, State};

use super::{
    query::{List, Parameters},
    rows::{iso, trace_pairs},
};
use crate::{
    auth::Full,
    respond::{ApiError, RawJson},
    server::App,
};

macro_rules! session_pairs {
    () => {
        concat!("'id', t.id, 'createdAt', ", iso!("t.created_at"), ", 'projectId', t.project_id")
    };
}

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let mut list = List {
        json: concat!("json_build_object(", session_pairs!(), ")"),
        from: "trace_sessions t WHERE t.project_id = ",
        behind_project: "",
        details: "",
        order: "t.created_at DESC, t.id",
        window: query.window(50)?,
        conditions: Vec::new(),
    };
    list.filter_cast("t.created_at >= ", query.time("fromTimestamp")?, "::text::timestamp");
    list.filter_cast("t.created_at < ", query.time("toTimestamp")?, "::text::timestamp");
    list.answer(&app, &scope.project_id).await
}

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path(id): Path<String>,
) -> Result<RawJson, ApiError> {
    let found: Option<String> = sqlx::query_scalar(concat!(
        "SELECT json_build_object(",
        session_pairs!(),
        ", 'traces', (SELECT coalesce(json_agg(json_build_object(",
        trace_pairs!(),
        ") ORDER BY t.timestamp, t.id), '[]'::json) FROM traces t WHERE t.project_id = $1 AND t.session_id = $2))::text
         FROM trace_sessions t WHERE t.project_id = $1 AND t.id = $2"
    ))
    .bind(&scope.project_id)
    .bind(&id)
    .fetch_optional(&app.pool)
    .await?;
    let missing = || ApiError::not_found("Session not found within authorized project");
    found.map(RawJson).ok_or_else(missing)
}
