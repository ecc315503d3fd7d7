//! `POST /dataset-run-items`, `GET /datasets/{name}/runs`, `GET /datasets/{name}/runs/{run}`.

use axum::{
    body::Bytes,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::Value;

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

macro_rules! run_pairs {
    () => {
        concat!(
            "'id', t.id, 'name', t.name, 'description', t.description, 'metadata', t.metadata,
            'datasetId', t.dataset_id, 'datasetName', d.name, 'createdAt', ",
            iso!("t.created_at"),
            ", 'updatedAt', ",
            iso!("t.updated_at")
        )
    };
}

macro_rules! item {
    () => {
        concat!(
            "json_build_object('id', i.id, 'datasetRunId', i.dataset_run_id, 'datasetRunName', t.name,
            'datasetItemId', i.dataset_item_id, 'traceId', i.trace_id, 'observationId', i.observation_id, 'createdAt', ",
            iso!("i.created_at"),
            ", 'updatedAt', ",
            iso!("i.updated_at"),
            ")"
        )
    };
}

const DATASET: &str = "JOIN datasets d ON d.id = t.dataset_id AND d.project_id = t.project_id";

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let mut list = List {
        json: concat!("json_build_object(", run_pairs!(), ")"),
        from: "dataset_runs t WHERE t.project_id = ",
        behind_project: "",
        details: DATASET,
        order: "t.created_at DESC, t.id",
        window: query.window(50)?,
        conditions: Vec::new(),
    };
    let dataset = datasets::id_of(&app, &scope.project_id, &name).await?;
    list.filter("t.dataset_id = ", Some(dataset));
    list.answer(&app, &scope.project_id).await
}

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path((dataset, run)): Path<(String, String)>,
) -> Result<RawJson, ApiError> {
    let found: Option<String> = sqlx::query_scalar(concat!(
        "SELECT json_build_object(",
        run_pairs!(),
        ", 'datasetRunItems', (SELECT coalesce(json_agg(",
        item!(),
        " ORDER BY i.created_at, i.id), '[]'::json) FROM dataset_run_items i
            WHERE i.dataset_run_id = t.id AND i.project_id = t.project_id))::text
         FROM dataset_runs t JOIN datasets d ON d.id = t.dataset_id AND d.project_id = t.project_id
         WHERE t.project_id = $1 AND d.name = $2 AND t.name = $3"
    ))
    .bind(&scope.project_id)
    .bind(dataset)
    .bind(run)
    .fetch_optional(&app.pool)
    .await?;
    found.map(RawJson).ok_or_else(|| ApiError::not_found("Dataset run not found"))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    run_name: String,
    #[serde(default)]
    run_description: Option<String>,
    #[serde(default)]
    metadata: Option<Value>,
    dataset_item_id: String,
    #[serde(default)]
    trace_id: Option<String>,
    #[serde(default)]
    observation_id: Option<String>,
}

/// Links an item to a trace; the run is made where it does not exist.
pub(crate) async fn create_item(
    State(app): State<App>,
    Full(scope): Full,
    body: Bytes,
) -> Result<RawJson, ApiError> {
    let new: New = respond::body(&body)?;
    stored(&app, &scope.project_id, new).await
}

async fn stored(app: &App, project: &str, new: New) -> Result<RawJson, ApiError> {
    let dataset = sqlx::query_scalar(
        "SELECT dataset_id FROM dataset_items WHERE project_id = $1 AND id = $2",
    );
    let dataset: Option<String> =
        dataset.bind(project).bind(&new.dataset_item_id).fetch_optional(&app.pool).await?;
    let dataset =
        dataset.ok_or_else(|| ApiError::not_found("Dataset item not found or not active"))?;
    let trace = trace_of(app, project, &new).await?;
    let run: String = sqlx::query_scalar(
        "INSERT INTO dataset_runs (id, name, dataset_id, project_id, description, metadata)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (dataset_id, project_id, name) DO UPDATE SET
            description = coalesce($5, dataset_runs.description), metadata = coalesce($6, dataset_runs.metadata),
            updated_at = CURRENT_TIMESTAMP
         RETURNING id",
    )
    .bind(uuid::Uuid::new_v4().to_string())
    .bind(&new.run_name)
    .bind(dataset)
    .bind(project)
    .bind(&new.run_description)
    .bind(new.metadata.as_ref().filter(|metadata| !metadata.is_null()))
    .fetch_one(&app.pool)
    .await?;
    let item: String = sqlx::query_scalar(concat!(
        "WITH i AS (INSERT INTO dataset_run_items (id, dataset_run_id, dataset_item_id, trace_id, observation_id, project_id)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING *)
         SELECT ",
        item!(),
        "::text FROM i JOIN dataset_runs t ON t.id = i.dataset_run_id AND t.project_id = i.project_id"
    ))
    .bind(uuid::Uuid::new_v4().to_string())
    .bind(run)
    .bind(&new.dataset_item_id)
    .bind(trace)
    .bind(&new.observation_id)
    .bind(project)
    .fetch_one(&app.pool)
    .await?;
    Ok(RawJson(item))
}

/// The trace that is named, else that of the observation.
async fn trace_of(app: &App, project: &str, new: &New) -> Result<String, ApiError> {
    if let Some(trace) = &new.trace_id {
        return Ok(trace.clone());
    }
    let Some(observation) = &new.observation_id else {
        return Err(ApiError::invalid("traceId", "observationId or traceId must be provided"));
    };
    let trace =
        sqlx::query_scalar("SELECT trace_id FROM observations WHERE project_id = $1 AND id = $2");
    let trace: Option<Option<String>> =
        trace.bind(project).bind(observation).fetch_optional(&app.pool).await?;
    trace.flatten().ok_or_else(|| ApiError::not_found("Observation not found"))
}
