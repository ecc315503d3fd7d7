//! Plain pages to look at traces, for a person with the project's keys (the browser asks for them: the public key is
//! the user, the secret key the password). Everything from outside is escaped by the template.

use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use crate::{api, auth::Full, respond::ApiError, server::App};

/// No script runs, nothing is loaded from elsewhere, no other page frames it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

const STYLE: &str = "body{font:14px system-ui;margin:2em;max-width:70em}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3em .6em;border-bottom:1px solid #ddd;vertical-align:top}pre{white-space:pre-wrap;
overflow-wrap:anywhere;background:#f6f6f6;padding:.6em;margin:.2em 0}.ERROR{color:#b00}.WARNING{color:#a60}
details{margin:.2em 0}small{color:#666}";

fn shown(title: &str, body: Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { (title) } style { (STYLE) } }
            body { (body) }
        }
    };
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page.into_string())).into_response()
}

/// Asks the browser for the keys.
fn refused(error: ApiError) -> Response {
    match error {
        ApiError::Unauthorized { .. } => {
            let ask = [(
                header::WWW_AUTHENTICATE,
                r#"Basic realm="Langfuse: public key and secret key""#,
            )];
            (
                StatusCode::UNAUTHORIZED,
                ask,
                "The project's public key is the user, its secret key the password.",
            )
                .into_response()
        }
        other => other.into_response(),
    }
}

#[derive(sqlx::FromRow)]
struct Listed {
    id: String,
    time: String,
    name: Option<String>,
    session_id: Option<String>,
}

/// The newest traces of the project.
pub(crate) async fn traces(State(app): State<App>, caller: Result<Full, ApiError>) -> Response {
    let scope = match caller {
        Ok(Full(scope)) => scope,
        Err(error) => return refused(error),
    };
    let rows: sqlx::Result<Vec<Listed>> = sqlx::query_as(
        "SELECT id, to_char(timestamp, 'YYYY-MM-DD HH24:MI:SS') AS time, name, session_id FROM traces
         WHERE project_id = $1 ORDER BY timestamp DESC, id LIMIT 100",
    )
    .bind(&scope.project_id)
    .fetch_all(&app.pool)
    .await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return ApiError::from(error).into_response(),
    };
    shown(
        "Traces",
        html! {
            h1 { "Traces" }
            p { "The newest 100 of project " code { (scope.project_id) } ", times in UTC." }
            table {
                tr { th { "Time" } th { "Name" } th { "Session" } th { "Trace" } }
                @for row in &rows {
                    tr {
                        td { (row.time) }
                        td { (row.name.as_deref().unwrap_or("–")) }
                        td { (row.session_id.as_deref().unwrap_or("–")) }
                        td { a href=(link(&scope.project_id, &row.id)) { (row.id) } }
                    }
                }
            }
        },
    )
}

fn link(project: &str, id: &str) -> String {
    let Ok(mut url) = url::Url::parse("http://localhost") else { return String::new() };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().extend(["project", project, "traces", id]);
    }
    url.path().to_owned()
}

/// One trace with its observations and scores.
pub(crate) async fn trace(
    State(app): State<App>,
    caller: Result<Full, ApiError>,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    let scope = match caller {
        Ok(Full(scope)) => scope,
        Err(error) => return refused(error),
    };
    if project != scope.project_id {
        return ApiError::not_found("The keys belong to another project").into_response();
    }
    let found = match api::trace(&app.pool, &project, &id).await {
        Ok(found) => found,
        Err(error) => return ApiError::from(error).into_response(),
    };
    let Some(trace) = found.and_then(|json| serde_json::from_str::<Value>(&json).ok()) else {
        return ApiError::not_found("Trace not found").into_response();
    };
    shown(&format!("Trace {id}"), trace_page(&trace))
}

fn trace_page(trace: &Value) -> Markup {
    let list = |key: &str| trace[key].as_array().cloned().unwrap_or_default();
    let (observations, scores) = (list("observations"), list("scores"));
    html! {
        p { a href="/" { "All traces" } }
        h1 { (text(&trace["name"])) }
        table {
            @for key in ["id", "timestamp", "sessionId", "userId", "tags", "release", "version", "latency", "totalCost"] {
                tr { th { (key) } td { (text(&trace[key])) } }
            }
        }
        (content("Input", &trace["input"]))
        (content("Output", &trace["output"]))
        (content("Metadata", &trace["metadata"]))
        h2 { (observations.len()) " observations" }
        @for observation in &observations { (observation_part(observation)) }
        h2 { (scores.len()) " scores" }
        table {
            @for score in &scores {
                tr {
                    th { (text(&score["name"])) }
                    td { (text(&score["value"])) " " (text(&score["stringValue"])) }
                    td { (text(&score["comment"])) }
                }
            }
        }
    }
}

fn observation_part(observation: &Value) -> Markup {
    let level = text(&observation["level"]);
    html! {
        details {
            summary class=(level) {
                b { (text(&observation["type"])) } " " (text(&observation["name"])) " "
                small {
                    (text(&observation["startTime"])) ", " (text(&observation["latency"])) " s, "
                    (text(&observation["model"])) ", " (text(&observation["totalTokens"])) " tokens, "
                    (text(&observation["calculatedTotalCost"])) " USD"
                }
            }
            @if !observation["statusMessage"].is_null() { p class=(level) { (text(&observation["statusMessage"])) } }
            (content("Input", &observation["input"]))
            (content("Output", &observation["output"]))
            (content("Metadata", &observation["metadata"]))
        }
    }
}

fn content(name: &str, value: &Value) -> Markup {
    html! {
        @if !value.is_null() {
            details open { summary { (name) } pre { (pretty(value)) } }
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_else(|_| other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let evil = "<script>alert(1)</script>\"'&";
        let trace = json!({
            "name": evil, "id": evil, "input": { evil: evil }, "tags": [evil],
            "observations": [{ "name": evil, "level": "\" onclick=\"x", "statusMessage": evil, "input": evil }],
            "scores": [{ "name": evil, "comment": evil }],
        });
        let page = trace_page(&trace).into_string();
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("onclick=\"x"), "{page}");
    }

    #[test]
    fn links_hold_ids_of_any_kind() {
        assert_eq!(link("p", "a/b?c#d \"e"), "/project/p/traces/a%2Fb%3Fc%23d%20%22e");
    }
}
