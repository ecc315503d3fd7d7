//! `GET /observations`, `GET /observations/{id}`.

use axum::extract::{Path, State};

use super::{
    query::{List, Parameters},
    rows::OBSERVATION,
};
use crate::{
    auth::Full,
    respond::{ApiError, RawJson},
    server::App,
};

pub(crate) async fn list(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let mut list = List {
        json: OBSERVATION,
        from: "observations_view t WHERE t.project_id = ",
        behind_project: "",
        details: "",
        order: "t.start_time DESC, t.id",
        window: query.window(50)?,
        conditions: Vec::new(),
    };
    let kind = query.get("type");
    if kind.is_some_and(|kind| !["SPAN", "EVENT", "GENERATION"].contains(&kind)) {
        return Err(ApiError::invalid(
            "type",
            "Invalid enum value. Expected 'GENERATION' | 'SPAN' | 'EVENT'",
        ));
    }
    list.filter("t.name = ", query.get("name"));
    list.filter("t.type::text = ", kind);
    list.filter("t.trace_id = ", query.get("traceId"));
    list.filter("t.parent_observation_id = ", query.get("parentObservationId"));
    list.filter("t.version = ", query.get("version"));
    list.filter_cast(
        "EXISTS (SELECT 1 FROM traces u WHERE u.id = t.trace_id AND u.project_id = t.project_id AND u.user_id = ",
        query.get("userId"),
        ")",
    );
    list.filter_cast("t.start_time >= ", query.time("fromStartTime")?, "::text::timestamp");
    list.filter_cast("t.start_time < ", query.time("toStartTime")?, "::text::timestamp");
    list.answer(&app, &scope.project_id).await
}

pub(crate) async fn get(
    State(app): State<App>,
    Full(scope): Full,
    Path(id): Path<String>,
) -> Result<RawJson, ApiError> {
    let mut query = sqlx::QueryBuilder::new("SELECT ");
    query.push(OBSERVATION).push("::text FROM observations_view t WHERE t.project_id = ");
    query.push_bind(&scope.project_id).push(" AND t.id = ").push_bind(&id);
    let found: Option<String> = query.build_query_scalar().fetch_optional(&app.pool).await?;
    let missing = || ApiError::not_found("Observation not found within authorized project");
    found.map(RawJson).ok_or_else(missing)
}
