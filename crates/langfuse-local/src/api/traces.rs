//! `GET /traces`, `GET /traces/{id}`, `POST /traces`.

use axum::{
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use sqlx::PgPool;

use super::{
    query::{List, Parameters},
    rows::{OBSERVATION, SCORE, iso, trace_pairs},
};
use crate::{
    auth::{Full, Scope},
    ingestion,
    respond::{ApiError, RawJson},
    server::App,
};

const FROM: &str = "traces t WHERE t.project_id = ";

/// Cost and time of a trace, from its observations.
const SUMS: &str = "LEFT JOIN LATERAL (
    SELECT coalesce(sum(o.calculated_total_cost), 0)::double precision AS total_cost,
        coalesce(extract(epoch FROM max(coalesce(o.end_time, o.start_time)) - min(o.start_time)), 0)::double precision AS latency
    FROM observations o WHERE o.trace_id = t.id AND o.project_id = t.project_id) sums ON true";

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let mut list = List {
        json: concat!(
            "json_build_object(",
            trace_pairs!(),
            ", 'totalCost', sums.total_cost, 'latency', sums.latency,
            'observations', coalesce(linked.observations, '[]'::json), 'scores', coalesce(judged.scores, '[]'::json))"
        ),
        from: FROM,
        behind_project: "",
        details: "LEFT JOIN LATERAL (
    SELECT coalesce(sum(o.calculated_total_cost), 0)::double precision AS total_cost,
        coalesce(extract(epoch FROM max(coalesce(o.end_time, o.start_time)) - min(o.start_time)), 0)::double precision AS latency
    FROM observations o WHERE o.trace_id = t.id AND o.project_id = t.project_id) sums ON true
LEFT JOIN LATERAL (SELECT json_agg(o.id ORDER BY o.id) AS observations
    FROM observations o WHERE o.trace_id = t.id AND o.project_id = t.project_id) linked ON true
LEFT JOIN LATERAL (SELECT json_agg(s.id ORDER BY s.id) AS scores
    FROM scores s WHERE s.trace_id = t.id AND s.project_id = t.project_id) judged ON true",
        order: order(query.get("orderBy"))?,
        window: query.window(50)?,
        conditions: Vec::new(),
    };
    list.filter("t.user_id = ", query.get("userId"));
    list.filter("t.name = ", query.get("name"));
    list.filter("t.session_id = ", query.get("sessionId"));
    list.filter("t.version = ", query.get("version"));
    list.filter("t.release = ", query.get("release"));
    list.filter_cast("t.timestamp >= ", query.time("fromTimestamp")?, "::text::timestamp");
    list.filter_cast("t.timestamp < ", query.time("toTimestamp")?, "::text::timestamp");
    list.filter_all("t.tags @> ", query.all("tags"), "");
    list.answer(&app, &scope.project_id).await
}

/// Version 2's columns; the id decides between equals, so that pages do not overlap.
fn order(by: Option<&str>) -> Result<&'static str, ApiError> {
    let failed = || ApiError::Failed { message: "Invalid filter column".to_owned() };
    Ok(match by {
        None | Some("timestamp.desc") => "t.timestamp DESC, t.id",
        Some("timestamp.asc") => "t.timestamp ASC, t.id",
        Some("id.asc") => "t.id ASC",
        Some("id.desc") => "t.id DESC",
        Some("name.asc") => "t.name ASC, t.id",
        Some("name.desc") => "t.name DESC, t.id",
        Some("userId.asc") => "t.user_id ASC, t.id",
        Some("userId.desc") => "t.user_id DESC, t.id",
        Some("sessionId.asc") => "t.session_id ASC, t.id",
        Some("sessionId.desc") => "t.session_id DESC, t.id",
        Some("version.asc") => "t.version ASC, t.id",
        Some("version.desc") => "t.version DESC, t.id",
        Some("release.asc") => "t.release ASC, t.id",
        Some("release.desc") => "t.release DESC, t.id",
        Some(other) if other.ends_with(".asc") || other.ends_with(".desc") => return Err(failed()),
        Some(_) => {
            return Err(ApiError::invalid("orderBy", "Expected `column.asc` or `column.desc`"));
        }
    })
}

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path(id): Path<String>,
) -> Result<RawJson, ApiError> {
    let found = one(&app.pool, &scope.project_id, &id).await?;
    let missing = || ApiError::not_found(format!("Trace {id} not found within authorized project"));
    found.map(RawJson).ok_or_else(missing)
}

/// A trace with its observations and scores, as JSON.
pub(crate) async fn one(pool: &PgPool, project: &str, id: &str) -> sqlx::Result<Option<String>> {
    let mut query = sqlx::QueryBuilder::new(concat!(
        "SELECT json_build_object(",
        trace_pairs!(),
        ", 'totalCost', sums.total_cost, 'latency', sums.latency, 'observations',
            (SELECT coalesce(json_agg("
    ));
    query.push(OBSERVATION);
    query.push(
        " ORDER BY t.start_time, t.id), '[]'::json) FROM observations_view t WHERE t.project_id = ",
    );
    query.push_bind(project.to_owned()).push(" AND t.trace_id = ").push_bind(id.to_owned());
    query.push("), 'scores', (SELECT coalesce(json_agg(").push(SCORE);
    query.push(" ORDER BY t.timestamp, t.id), '[]'::json) FROM scores t WHERE t.project_id = ");
    query.push_bind(project.to_owned()).push(" AND t.trace_id = ").push_bind(id.to_owned());
    query.push("))::text FROM traces t ").push(SUMS).push(" WHERE t.project_id = ");
    query.push_bind(project.to_owned()).push(" AND t.id = ").push_bind(id.to_owned());
    query.build_query_scalar().fetch_optional(pool).await
}

/// The endpoint before ingestion, which older programs still call.
pub(crate) async fn create(State(app): State<App>, scope: Scope, body: Bytes) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    match ingestion::single(&app, &scope, "trace-create", &id, &body).await {
        Ok(written) => match one(&app.pool, &scope.project_id, &written).await {
            Ok(Some(trace)) => RawJson(trace).into_response(),
            Ok(None) => ApiError::not_found("Trace not found").into_response(),
            Err(error) => ApiError::from(error).into_response(),
        },
        Err(refusal) => ApiError::from(refusal).into_response(),
    }
}
