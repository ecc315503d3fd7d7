//! The routes: what is served, what version 2 has and this server does not, and what neither has.

mod dataset_items;
mod dataset_runs;
mod datasets;
mod health;
mod metrics;
mod models;
mod observations;
mod projects;
mod prompts;
mod query;
mod rows;
mod scores;
mod sessions;
mod traces;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse as _, Response},
    routing::{any, get, post},
};

pub(crate) use traces::one as trace;

use crate::{ingestion, page, respond::ApiError, server::App};

/// Sizes of bodies that version 2 takes, and what it says above: Next.js counts in binary units.
const INGESTION_BYTES: usize = 4_718_592;
const BODY_BYTES: usize = 1 << 20;

/// Endpoints of version 2 that are not served here.
const NOT_SERVED: &[&str] = &[
    "/api/public/comments",
    "/api/public/comments/{id}",
    "/api/public/media",
    "/api/public/media/{id}",
    "/api/public/score-configs",
    "/api/public/score-configs/{id}",
    "/api/public/datasets",
    "/api/public/datasets/{name}",
    "/api/public/events",
    "/api/public/generations",
    "/api/public/prompts",
    "/api/public/spans",
];

pub(crate) fn router(app: App) -> Router {
    let ingestion =
        post(ingestion::ingest).fallback(method).layer(DefaultBodyLimit::max(INGESTION_BYTES));
    let mut router = Router::new()
        .route("/api/public/health", get(health::health).fallback(method))
        .route("/api/public/projects", get(projects::list).fallback(method))
        .route("/api/public/traces", get(traces::list).post(traces::create).fallback(method))
        .route("/api/public/traces/{id}", get(traces::get).fallback(method))
        .route("/api/public/observations", get(observations::list).fallback(method))
        .route("/api/public/observations/{id}", get(observations::get).fallback(method))
        .route("/api/public/sessions", get(sessions::list).fallback(method))
        .route("/api/public/sessions/{id}", get(sessions::get).fallback(method))
        .route("/api/public/scores", get(scores::list).post(scores::create).fallback(method))
        .route("/api/public/scores/{id}", get(scores::get).delete(scores::delete).fallback(method))
        .route(
            "/api/public/v2/datasets",
            get(datasets::list).post(datasets::create).fallback(method),
        )
        .route("/api/public/v2/datasets/{name}", get(datasets::get).fallback(method))
        .route(
            "/api/public/dataset-items",
            get(dataset_items::list).post(dataset_items::create).fallback(method),
        )
        .route("/api/public/dataset-items/{id}", get(dataset_items::get).fallback(method))
        .route("/api/public/dataset-run-items", post(dataset_runs::create_item).fallback(method))
        .route("/api/public/datasets/{name}/runs", get(dataset_runs::list).fallback(method))
        .route("/api/public/datasets/{name}/runs/{run}", get(dataset_runs::get).fallback(method))
        .route("/api/public/metrics/daily", get(metrics::daily).fallback(method))
        .route("/api/public/models", get(models::list).post(models::create).fallback(method))
        .route("/api/public/models/{id}", get(models::get).delete(models::delete).fallback(method))
        .route("/api/public/v2/prompts", get(prompts::list).post(prompts::create).fallback(method))
        .route("/api/public/v2/prompts/{name}", get(prompts::get).fallback(method))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .route("/api/public/ingestion", ingestion)
        .route("/project/{project}/traces/{id}", get(page::trace))
        .route("/", get(page::traces));
    for path in NOT_SERVED {
        router = router.route(path, any(not_served));
    }
    router.fallback(unknown).layer(middleware::from_fn(size_words)).with_state(app)
}

async fn method() -> ApiError {
    ApiError::Method
}

async fn not_served(request: Request) -> ApiError {
    ApiError::NotServed { name: format!("{} {}", request.method(), request.uri().path()) }
}

/// Paths that version 2 does not have are its page of errors, not JSON; clients tell versions apart by it.
async fn unknown() -> Response {
    let page = "<!DOCTYPE html><html><head><title>404</title></head><body><h1>404</h1><p>This page could not be found.</p></body></html>";
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

/// Above the limit of a body, version 2's words.
async fn size_words(request: Request, next: Next) -> Response {
    let limit = if request.uri().path() == "/api/public/ingestion" { "4.5mb" } else { "1mb" };
    let answer = next.run(request).await;
    let ours =
        answer.headers().get(header::CONTENT_TYPE).is_some_and(|it| it == "application/json");
    if answer.status() == StatusCode::PAYLOAD_TOO_LARGE && !ours {
        return (StatusCode::PAYLOAD_TOO_LARGE, format!("Body exceeded {limit} limit"))
            .into_response();
    }
    answer
}
