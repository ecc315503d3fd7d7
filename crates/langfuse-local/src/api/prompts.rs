//! `GET` and `POST /v2/prompts`, `GET /v2/prompts/{name}`: versions by number and label.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;

use super::{query::Parameters, rows::iso};
use crate::{
    auth::Full,
    respond::{self, ApiError, RawJson},
    server::App,
};

macro_rules! prompt {
    () => {
        concat!(
    "json_build_object('id', t.id, 'createdAt', ",
    iso!("t.created_at"),
    ", 'updatedAt', ",
    iso!("t.updated_at"),
    ", 'projectId', t.project_id, 'createdBy', t.created_by, 'prompt', t.prompt, 'name', t.name, 'version', t.version,
    'type', t.type, 'isActive', t.is_active, 'config', t.config, 'tags', coalesce(to_json(t.tags), '[]'::json),
    'labels', coalesce(to_json(t.labels), '[]'::json), 'commitMessage', t.commit_message)"
)
    };
}

const PROMPT: &str = prompt!();

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let (version, label) = (query.get("version"), query.get("label"));
    if version.is_some() && label.is_some() {
        return Err(ApiError::invalid("version", "Cannot specify both version and label"));
    }
    let mut sql = sqlx::QueryBuilder::new("SELECT ");
    sql.push(PROMPT)
        .push("::text FROM prompts t WHERE t.project_id = ")
        .push_bind(&scope.project_id);
    sql.push(" AND t.name = ").push_bind(&name);
    if let Some(version) = version {
        let number: i32 = version
            .parse()
            .map_err(|_| ApiError::invalid("version", "Expected number, received nan"))?;
        sql.push(" AND t.version = ").push_bind(number);
    } else {
        sql.push(" AND ").push_bind(label.unwrap_or("production")).push(" = ANY(t.labels)");
    }
    let found: Option<String> = sql.build_query_scalar().fetch_optional(&app.pool).await?;
    found.map(RawJson).ok_or_else(|| ApiError::not_found("Prompt not found"))
}

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let window = query.window(10)?;
    let filter = |sql: &mut sqlx::QueryBuilder<sqlx::Postgres>| -> Result<(), ApiError> {
        sql.push(" FROM prompts t WHERE t.project_id = ").push_bind(scope.project_id.clone());
        if let Some(name) = query.get("name") {
            sql.push(" AND t.name = ").push_bind(name.to_owned());
        }
        if let Some(label) = query.get("label") {
            sql.push(" AND ").push_bind(label.to_owned()).push(" = ANY(t.labels)");
        }
        if let Some(tag) = query.get("tag") {
            sql.push(" AND ").push_bind(tag.to_owned()).push(" = ANY(t.tags)");
        }
        for (key, operator) in [("fromUpdatedAt", " >= "), ("toUpdatedAt", " < ")] {
            if let Some(time) = query.time(key)? {
                sql.push(" AND t.updated_at")
                    .push(operator)
                    .push_bind(time)
                    .push("::text::timestamp");
            }
        }
        Ok(())
    };
    let mut sql = sqlx::QueryBuilder::new(concat!(
        "SELECT json_build_object('name', t.name, 'versions', json_agg(t.version ORDER BY t.version),
            'labels', (SELECT coalesce(json_agg(DISTINCT label), '[]'::json) FROM prompts p, unnest(p.labels) AS label
                WHERE p.project_id = min(t.project_id) AND p.name = t.name),
            'tags', (array_agg(coalesce(to_json(t.tags), '[]'::json) ORDER BY t.version DESC))[1],
            'lastUpdatedAt', ",
        iso!("max(t.updated_at)"),
        ", 'lastConfig', (array_agg(t.config ORDER BY t.version DESC))[1])::text"
    ));
    filter(&mut sql)?;
    sql.push(" GROUP BY t.name ORDER BY t.name LIMIT ").push_bind(window.limit);
    sql.push(" OFFSET ").push_bind((window.page - 1) * window.limit);
    let rows: Vec<String> = sql.build_query_scalar().fetch_all(&app.pool).await?;
    let mut count = sqlx::QueryBuilder::new("SELECT count(DISTINCT t.name)");
    filter(&mut count)?;
    let total: i64 = count.build_query_scalar().fetch_one(&app.pool).await?;
    let RawJson(mut body) = respond::page(&rows, window.page, window.limit, total);
    // Version 2 says the same twice, for its oldest SDKs.
    let meta = body.rfind(r#","meta":"#).map(|at| body[at + 8..body.len() - 1].to_owned());
    body.pop();
    body.push_str(&format!(r#","pagination":{}}}"#, meta.unwrap_or_default()));
    Ok(RawJson(body))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    name: String,
    prompt: Value,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    labels: Option<Vec<String>>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    is_active: Option<bool>,
    #[serde(default)]
    commit_message: Option<String>,
}

impl New {
    fn check(&self) -> Result<&'static str, ApiError> {
        let message = |value: &Value| value["role"].is_string() && value["content"].is_string();
        match (self.kind.as_deref().unwrap_or("text"), &self.prompt) {
            ("text", Value::String(_)) => Ok("text"),
            ("chat", Value::Array(messages)) if messages.iter().all(message) => Ok("chat"),
            ("text" | "chat", _) => Err(ApiError::invalid(
                "prompt",
                "the prompt does not fit its type: text, or a list of messages",
            )),
            _ => Err(ApiError::invalid(
                "type",
                "Invalid discriminator value. Expected 'chat' | 'text'",
            )),
        }
    }

    /// The labels of the new version: it is always the latest.
    fn labels(&self) -> Vec<String> {
        let mut labels = self.labels.clone().unwrap_or_default();
        if self.is_active == Some(true) {
            labels.push("production".to_owned());
        }
        labels.push("latest".to_owned());
        labels.sort();
        labels.dedup();
        labels
    }
}

/// Makes the next version; a label belongs to one version, so it leaves the others.
pub(crate) async fn create(
    State(app): State<App>,
    Full(scope): Full,
    body: Bytes,
) -> Result<Response, ApiError> {
    let new: New = respond::body(&body)?;
    let prompt = stored(&app, &scope.project_id, &new).await?;
    Ok((StatusCode::CREATED, RawJson(prompt)).into_response())
}

async fn stored(app: &App, project: &str, new: &New) -> Result<String, ApiError> {
    let kind = new.check()?;
    let labels = new.labels();
    let mut transaction = app.pool.begin().await?;
    // One new version of a name at a time.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("{project}/{}", new.name))
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "UPDATE prompts SET labels = (SELECT coalesce(array_agg(label), ARRAY[]::text[]) FROM unnest(labels) AS label
            WHERE label <> ALL($3)), updated_at = CURRENT_TIMESTAMP
         WHERE project_id = $1 AND name = $2 AND labels && $3",
    )
    .bind(project)
    .bind(&new.name)
    .bind(&labels)
    .execute(&mut *transaction)
    .await?;
    let prompt: String = sqlx::query_scalar(concat!(
        "WITH before AS (SELECT version, tags FROM prompts WHERE project_id = $1 AND name = $2
            ORDER BY version DESC LIMIT 1),
         t AS (INSERT INTO prompts (id, project_id, created_by, name, version, prompt, type, config, labels, tags,
            is_active, commit_message)
         VALUES ($3, $1, 'API', $2, coalesce((SELECT version FROM before), 0) + 1, $4, $5, coalesce($6, '{}'::jsonb),
            $7, coalesce($8, (SELECT tags FROM before), ARRAY[]::text[]), $9, $10) RETURNING *) SELECT ",
        prompt!(),
        "::text FROM t"
    ))
    .bind(project)
    .bind(&new.name)
    .bind(uuid::Uuid::new_v4().to_string())
    .bind(&new.prompt)
    .bind(kind)
    .bind(new.config.as_ref().filter(|config| !config.is_null()))
    .bind(&labels)
    .bind(&new.tags)
    .bind(new.is_active)
    .bind(&new.commit_message)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(prompt)
}
