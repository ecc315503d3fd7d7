//! `GET` and `POST /v2/datasets`, `GET /v2/datasets/{name}`.

use axum::{
    body::Bytes,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    query::{List, Parameters},
    rows::iso,
};
use crate::{
    auth::Full,
    respond::{self, ApiError, RawJson},
    server::App,
};

const DATASET: &str = concat!(
    "json_build_object('id', t.id, 'name', t.name, 'description', t.description, 'metadata', t.metadata,
    'projectId', t.project_id, 'createdAt', ",
    iso!("t.created_at"),
    ", 'updatedAt', ",
    iso!("t.updated_at"),
    ")"
);

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let list = List {
        json: DATASET,
        from: "datasets t WHERE t.project_id = ",
        behind_project: "",
        details: "",
        order: "t.created_at DESC, t.id",
        window: query.window(50)?,
        conditions: Vec::new(),
    };
    list.answer(&app, &scope.project_id).await
}

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path(name): Path<String>,
) -> Result<RawJson, ApiError> {
    one(&app, &scope.project_id, &name).await?.map(RawJson).ok_or_else(missing)
}

pub(crate) fn missing() -> ApiError {
    ApiError::not_found("Dataset not found")
}

async fn one(app: &App, project: &str, name: &str) -> sqlx::Result<Option<String>> {
    let mut query = sqlx::QueryBuilder::new("SELECT ");
    query.push(DATASET).push("::text FROM datasets t WHERE t.project_id = ");
    query.push_bind(project).push(" AND t.name = ").push_bind(name);
    query.build_query_scalar().fetch_optional(&app.pool).await
}

/// The id of a dataset.
pub(crate) async fn id_of(app: &App, project: &str, name: &str) -> Result<String, ApiError> {
    let id = sqlx::query_scalar("SELECT id FROM datasets WHERE project_id = $1 AND name = $2");
    let id: Option<String> = id.bind(project).bind(name).fetch_optional(&app.pool).await?;
    id.ok_or_else(missing)
}

#[derive(Debug, Deserialize)]
struct New {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    metadata: Option<Value>,
}

/// Makes it, or changes the one of that name.
pub(crate) async fn create(
    State(app): State<App>,
    Full(scope): Full,
    body: Bytes,
) -> Result<RawJson, ApiError> {
    let new: New = respond::body(&body)?;
    stored(&app, &scope.project_id, new).await
}

async fn stored(app: &App, project: &str, new: New) -> Result<RawJson, ApiError> {
    sqlx::query(
        "INSERT INTO datasets (id, name, project_id, description, metadata) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (project_id, name) DO UPDATE SET description = $4, metadata = coalesce($5, datasets.metadata),
            updated_at = CURRENT_TIMESTAMP",
    )
    .bind(uuid::Uuid::new_v4().to_string())
    .bind(&new.name)
    .bind(project)
    .bind(new.description)
    .bind(new.metadata.filter(|metadata| !metadata.is_null()))
    .execute(&app.pool)
    .await?;
    one(app, project, &new.name).await?.map(RawJson).ok_or_else(missing)
}
