//! `GET /health`: needs no keys.

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use serde_json::json;

use crate::{VERSION, server::App};

pub(crate) async fn health(State(app): State<App>) -> impl IntoResponse {
    let answers = sqlx::query("SELECT 1").execute(&app.pool).await;
    let (code, status) = match answers {
        Ok(_) => (StatusCode::OK, "OK"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "Database not available"),
    };
    (code, axum::Json(json!({ "status": status, "version": VERSION })))
}
