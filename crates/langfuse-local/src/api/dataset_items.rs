//! `GET` and `POST /dataset-items`, `GET /dataset-items/{id}`.

use axum::{
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    datasets,
    query::{List, Parameters},
    rows::iso,
};
use crate::{
    auth::Full,
    respond::{self, ApiError, RawJson},
    server::App,
};

const ITEM: &str = concat!(
    "json_build_object('id', t.id, 'status', t.status, 'input', t.input, 'expectedOutput', t.expected_output,
    'metadata', t.metadata, 'sourceTraceId', t.source_trace_id, 'sourceObservationId', t.source_observation_id,
    'datasetId', t.dataset_id, 'datasetName', d.name, 'createdAt', ",
    iso!("t.created_at"),
    ", 'updatedAt', ",
    iso!("t.updated_at"),
    ")"
);
const DATASET: &str = "JOIN datasets d ON d.id = t.dataset_id AND d.project_id = t.project_id";

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let mut list = List {
        json: ITEM,
        from: "dataset_items t WHERE t.project_id = ",
        behind_project: "",
        details: DATASET,
        order: "t.created_at DESC, t.id",
        window: query.window(50)?,
        conditions: Vec::new(),
    };
    if let Some(name) = query.get("datasetName") {
        let id = datasets::id_of(&app, &scope.project_id, name).await?;
        list.filter("t.dataset_id = ", Some(id));
    }
    list.filter("t.source_trace_id = ", query.get("sourceTraceId"));
    list.filter("t.source_observation_id = ", query.get("sourceObservationId"));
    list.answer(&app, &scope.project_id).await
}

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path(id): Path<String>,
) -> Result<RawJson, ApiError> {
    let found = one(&app, &scope.project_id, &id, None).await?;
    found.map(RawJson).ok_or_else(|| ApiError::not_found("Dataset item not found"))
}

async fn one(
    app: &App,
    project: &str,
    id: &str,
    dataset: Option<&str>,
) -> sqlx::Result<Option<String>> {
    let mut query = sqlx::QueryBuilder::new("SELECT ");
    query.push(ITEM).push("::text FROM dataset_items t ").push(DATASET);
    query.push(" WHERE t.project_id = ").push_bind(project).push(" AND t.id = ").push_bind(id);
    if let Some(dataset) = dataset {
        query.push(" AND t.dataset_id = ").push_bind(dataset);
    }
    query.build_query_scalar().fetch_optional(&app.pool).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    dataset_name: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    input: Option<Value>,
    #[serde(default)]
    expected_output: Option<Value>,
    #[serde(default)]
    metadata: Option<Value>,
    #[serde(default)]
    source_trace_id: Option<String>,
    #[serde(default)]
    source_observation_id: Option<String>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Active,
    Archived,
}

/// Makes it, or changes the one of that id.
pub(crate) async fn create(
    State(app): State<App>,
    Full(scope): Full,
    body: Bytes,
) -> Result<Response, ApiError> {
    let new: New = respond::body(&body)?;
    stored(&app, &scope.project_id, new).await
}

async fn stored(app: &App, project: &str, new: New) -> Result<Response, ApiError> {
    let dataset = datasets::id_of(app, project, &new.dataset_name).await?;
    let id = new.id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let given = |value: Option<Value>| value.filter(|value| !value.is_null());
    sqlx::query(
        r#"INSERT INTO dataset_items (id, dataset_id, project_id, input, expected_output, metadata, source_trace_id,
            source_observation_id, status)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, 'ACTIVE')::"DatasetStatus")
         ON CONFLICT (id, project_id) DO UPDATE SET input = coalesce($4, dataset_items.input),
            expected_output = coalesce($5, dataset_items.expected_output),
            metadata = coalesce($6, dataset_items.metadata),
            source_trace_id = coalesce($7, dataset_items.source_trace_id),
            source_observation_id = coalesce($8, dataset_items.source_observation_id),
            status = coalesce($9::"DatasetStatus", dataset_items.status), updated_at = CURRENT_TIMESTAMP
         WHERE dataset_items.dataset_id = $2"#,
    )
    .bind(&id)
    .bind(&dataset)
    .bind(project)
    .bind(given(new.input))
    .bind(given(new.expected_output))
    .bind(given(new.metadata))
    .bind(new.source_trace_id)
    .bind(new.source_observation_id)
    .bind(new.status.map(|status| match status {
        Status::Active => "ACTIVE",
        Status::Archived => "ARCHIVED",
    }))
    .execute(&app.pool)
    .await?;
    // An id of another dataset's item changes nothing, and version 2 answers with the name alone.
    Ok(match one(app, project, &id, Some(&dataset)).await? {
        Some(item) => RawJson(item).into_response(),
        None => axum::Json(json!({ "datasetName": new.dataset_name })).into_response(),
    })
}
