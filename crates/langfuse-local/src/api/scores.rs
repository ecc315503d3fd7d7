//! `GET /scores`, `POST /scores`, `GET` and `DELETE /scores/{id}`.

use axum::{
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    query::{Condition, List, Parameters},
    rows::{SCORE, iso, score_pairs},
};
use crate::{
    auth::{Full, Scope},
    ingestion,
    respond::{ApiError, RawJson},
    server::App,
};

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let mut list = List {
        json: concat!(
            "json_build_object(",
            score_pairs!(),
            ", 'trace', json_build_object('userId', u.user_id, 'tags', coalesce(to_json(u.tags), '[]'::json)))"
        ),
        from: "scores t WHERE t.project_id = ",
        behind_project: "",
        details: "LEFT JOIN traces u ON u.id = t.trace_id AND u.project_id = t.project_id",
        order: "t.timestamp DESC, t.id",
        window: query.window(50)?,
        conditions: Vec::new(),
    };
    one_of(&query, "source", &["API", "ANNOTATION", "EVAL"])?;
    one_of(&query, "dataType", &["NUMERIC", "CATEGORICAL", "BOOLEAN"])?;
    list.filter("t.name = ", query.get("name"));
    list.filter("t.source::text = ", query.get("source"));
    list.filter("t.data_type::text = ", query.get("dataType"));
    list.filter("t.config_id = ", query.get("configId"));
    list.filter("t.queue_id = ", query.get("queueId"));
    list.filter_cast("t.timestamp >= ", query.time("fromTimestamp")?, "::text::timestamp");
    list.filter_cast("t.timestamp < ", query.time("toTimestamp")?, "::text::timestamp");
    list.filter_cast(
        "EXISTS (SELECT 1 FROM traces u WHERE u.id = t.trace_id AND u.project_id = t.project_id AND u.user_id = ",
        query.get("userId"),
        ")",
    );
    list.filter_all(
        "EXISTS (SELECT 1 FROM traces u WHERE u.id = t.trace_id AND u.project_id = t.project_id AND u.tags @> ",
        query.all("traceTags"),
        ")",
    );
    let ids =
        query.get("scoreIds").map(|ids| ids.split(',').map(|id| id.trim().to_owned()).collect());
    list.filter_all("t.id = ANY(", ids.unwrap_or_default(), ")");
    if let Some(condition) = by_value(&query)? {
        list.conditions.push(condition);
    }
    list.answer(&app, &scope.project_id).await
}

fn one_of(query: &Parameters, key: &str, allowed: &[&str]) -> Result<(), ApiError> {
    match query.get(key) {
        Some(value) if !allowed.contains(&value) => {
            Err(ApiError::invalid(key, format!("Invalid enum value. Expected one of {allowed:?}")))
        }
        _ => Ok(()),
    }
}

/// `operator` and `value`, which go together.
fn by_value(query: &Parameters) -> Result<Option<Condition>, ApiError> {
    let (Some(operator), Some(value)) = (query.get("operator"), query.get("value")) else {
        return Ok(None);
    };
    let before = match operator {
        "<" => "t.value < ",
        ">" => "t.value > ",
        "<=" => "t.value <= ",
        ">=" => "t.value >= ",
        "!=" => "t.value <> ",
        "=" => "t.value = ",
        _ => return Err(ApiError::invalid("operator", "Invalid enum value")),
    };
    let value =
        value.parse().map_err(|_| ApiError::invalid("value", "Expected number, received nan"))?;
    Ok(Some(Condition::Number(before, value)))
}

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path(id): Path<String>,
) -> Result<RawJson, ApiError> {
    let mut query = sqlx::QueryBuilder::new("SELECT ");
    query.push(SCORE).push("::text FROM scores t WHERE t.project_id = ");
    query.push_bind(&scope.project_id).push(" AND t.id = ").push_bind(&id);
    let found: Option<String> = query.build_query_scalar().fetch_optional(&app.pool).await?;
    found
        .map(RawJson)
        .ok_or_else(|| ApiError::not_found("Score not found within authorized project"))
}

pub(crate) async fn delete(
    State(app): State<App>,
    Full(scope): Full,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    let deleted = sqlx::query("DELETE FROM scores WHERE project_id = $1 AND id = $2")
        .bind(&scope.project_id)
        .bind(&id)
        .execute(&app.pool)
        .await?;
    if deleted.rows_affected() == 0 {
        return Err(ApiError::not_found("Score not found within authorized project"));
    }
    Ok(axum::Json(json!({ "message": format!("Score with id {id} deleted successfully") })))
}

pub(crate) async fn create(State(app): State<App>, scope: Scope, body: Bytes) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    match ingestion::single(&app, &scope, "score-create", &id, &body).await {
        Ok(written) => axum::Json(json!({ "id": written })).into_response(),
        Err(refusal) => ApiError::from(refusal).into_response(),
    }
}
