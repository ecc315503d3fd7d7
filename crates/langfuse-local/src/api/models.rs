//! `GET` and `POST /models`, `GET` and `DELETE /models/{id}`: the project's own and the default ones.

use axum::{
    body::Bytes,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    query::{List, Parameters},
    rows::iso,
};
use crate::{
    auth::Full,
    ingestion::time_column,
    respond::{self, ApiError, RawJson},
    server::App,
};

const MODEL: &str = concat!(
    "json_build_object('id', t.id, 'modelName', t.model_name, 'matchPattern', t.match_pattern, 'startDate', ",
    iso!("t.start_date"),
    ", 'unit', t.unit, 'inputPrice', t.input_price::double precision, 'outputPrice', t.output_price::double precision,
    'totalPrice', t.total_price::double precision, 'tokenizerId', t.tokenizer_id, 'tokenizerConfig', t.tokenizer_config,
    'isLangfuseManaged', t.project_id IS NULL)"
);

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let list = List {
        json: MODEL,
        from: "models t WHERE coalesce(t.project_id, '') IN ('', ",
        behind_project: ")",
        details: "",
        order: "t.project_id ASC, t.model_name, t.start_date DESC NULLS LAST, t.id",
        window: query.window(50)?,
        conditions: Vec::new(),
    };
    list.answer(&app, &scope.project_id).await
}

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path(id): Path<String>,
) -> Result<RawJson, ApiError> {
    one(&app, &scope.project_id, &id).await?.map(RawJson).ok_or_else(missing)
}

fn missing() -> ApiError {
    ApiError::not_found("No model with this id found.")
}

async fn one(app: &App, project: &str, id: &str) -> sqlx::Result<Option<String>> {
    let mut query = sqlx::QueryBuilder::new("SELECT ");
    query.push(MODEL).push("::text FROM models t WHERE t.id = ").push_bind(id);
    query.push(" AND (t.project_id IS NULL OR t.project_id = ").push_bind(project).push(")");
    query.build_query_scalar().fetch_optional(&app.pool).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    model_name: String,
    match_pattern: String,
    #[serde(default)]
    start_date: Option<String>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    input_price: Option<f64>,
    #[serde(default)]
    output_price: Option<f64>,
    #[serde(default)]
    total_price: Option<f64>,
    #[serde(default)]
    tokenizer_id: Option<String>,
    #[serde(default)]
    tokenizer_config: Option<Value>,
}

pub(crate) async fn create(
    State(app): State<App>,
    Full(scope): Full,
    body: Bytes,
) -> Result<RawJson, ApiError> {
    let new: New = respond::body(&body)?;
    stored(&app, &scope.project_id, new).await
}

async fn stored(app: &App, project: &str, new: New) -> Result<RawJson, ApiError> {
    let start = new.start_date.as_deref().map(time_column).transpose();
    let start = start.map_err(|message| ApiError::invalid("startDate", message))?;
    // A pattern that is none would break every later look for a price.
    let pattern = sqlx::query("SELECT '' ~ $1").bind(&new.match_pattern).execute(&app.pool).await;
    pattern.map_err(|_| {
        ApiError::invalid("matchPattern", "matchPattern must be valid regex (Postgres)")
    })?;
    let id = uuid::Uuid::new_v4().to_string();
    let price = |price: Option<f64>| price.map(|price| price.to_string());
    sqlx::query(
        "INSERT INTO models (id, project_id, model_name, match_pattern, start_date, input_price, output_price,
            total_price, unit, tokenizer_id, tokenizer_config)
         VALUES ($1, $2, $3, $4, $5::text::timestamp, $6::text::numeric, $7::text::numeric, $8::text::numeric, $9, $10, $11)",
    )
    .bind(&id)
    .bind(project)
    .bind(new.model_name)
    .bind(new.match_pattern)
    .bind(start)
    .bind(price(new.input_price))
    .bind(price(new.output_price))
    .bind(price(new.total_price))
    .bind(new.unit)
    .bind(new.tokenizer_id)
    .bind(new.tokenizer_config.filter(|config| !config.is_null()))
    .execute(&app.pool)
    .await?;
    app.models.forget();
    one(app, project, &id).await?.map(RawJson).ok_or_else(missing)
}

pub(crate) async fn delete(
    State(app): State<App>,
    Full(scope): Full,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    let deleted = sqlx::query("DELETE FROM models WHERE project_id = $1 AND id = $2")
        .bind(&scope.project_id)
        .bind(&id)
        .execute(&app.pool)
        .await?;
    app.models.forget();
    if deleted.rows_affected() == 0 {
        return Err(ApiError::not_found(
            "No model with this id found. Note: You cannot delete built-in models, override them with a model with the same name.",
        ));
    }
    Ok(axum::Json(json!({ "message": "Model successfully deleted" })))
}
