//! `POST /ingestion`: events become rows, as version 2 makes them.
//!
//! Version 2 works event by event; here a batch is one transaction: what is stored is read and locked, events are
//! applied in version 2's order in memory, and rows are written together, which is the same outcome for a twentieth
//! of the work. Where the database refuses the whole, events are written one by one, so that one that it cannot
//! store fails alone.
//!
//! Sending a batch again changes nothing: rows go by the ids in the bodies, and a body without an id gets one that
//! is derived from the event's.

mod apply;
mod check;
mod event;
mod rows;
mod write;

use axum::{
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    auth::{Access, Scope},
    respond::ApiError,
    server::App,
};

use event::{Action, Event};

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400: the words are of the validator.
    Invalid(String),
    /// 404.
    NotFound(String),
    /// 500: also where the id belongs to another project, as version 2 answers.
    Failed,
}

impl Refusal {
    fn item(&self, id: &str) -> Value {
        match self {
            Self::Invalid(error) => {
                json!({ "id": id, "status": 400, "message": "Invalid request data", "error": error })
            }
            Self::NotFound(error) => {
                json!({ "id": id, "status": 404, "message": "Resource not found", "error": error })
            }
            Self::Failed => json!({ "id": id, "status": 500, "error": "Internal Server Error" }),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

/// The route.
pub(crate) async fn ingest(
    State(app): State<App>,
    scope: Result<Scope, ApiError>,
    body: Bytes,
) -> Response {
    let scope = match scope {
        Ok(scope) => scope,
        Err(ApiError::Unauthorized { message }) => {
            let body = json!({ "error": "UnauthorizedError", "message": message });
            return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
        }
        Err(error) => return error.into_response(),
    };
    let batch = match batch(&body) {
        Ok(batch) => batch,
        Err(error) => return error.into_response(),
    };
    let mut errors = Vec::new();
    let mut events = Vec::with_capacity(batch.len());
    for item in batch {
        match event::parse(item) {
            Ok(event) => events.push(event),
            Err((id, refusal)) => errors.push(refusal.item(&id)),
        }
    }
    let verdicts = store(&app, &scope, &event::sorted(events)).await;
    let mut successes = Vec::with_capacity(verdicts.len());
    for (id, verdict) in verdicts {
        match verdict {
            Ok(()) => successes.push(json!({ "id": id, "status": 201 })),
            Err(refusal) => errors.push(refusal.item(&id)),
        }
    }
    let body = json!({ "successes": successes, "errors": errors });
    (StatusCode::MULTI_STATUS, axum::Json(body)).into_response()
}

fn batch(body: &[u8]) -> Result<Vec<&RawValue>, ApiError> {
    let request = serde_json::from_slice::<Request<'_>>(body);
    let request = request.map_err(|error| match error.is_data() {
        true => ApiError::NoBatch { errors: vec![error.to_string()] },
        false => ApiError::NotJson,
    });
    request.map(|request| request.batch)
}

/// Stores events, in the order given; the verdicts come in the same order.
pub(crate) async fn store(
    app: &App,
    scope: &Scope,
    events: &[Event],
) -> Vec<(String, Result<(), Refusal>)> {
    let allowed = |event: &Event| {
        scope.access == Access::All || matches!(event.action, Action::Score(_) | Action::Log)
    };
    let mut verdicts: Vec<Result<(), Refusal>> = events
        .iter()
        .map(|event| if allowed(event) { Ok(()) } else { Err(Refusal::Failed) })
        .collect();
    let taken: Vec<usize> = (0..events.len()).filter(|&index| verdicts[index].is_ok()).collect();
    let batch: Vec<&Event> = taken.iter().map(|&index| &events[index]).collect();
    match write::transaction(app, &scope.project_id, &batch).await {
        Ok(outcomes) => {
            for (index, outcome) in taken.into_iter().zip(outcomes) {
                verdicts[index] = outcome;
            }
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a batch is stored event by event"
            );
            for index in taken {
                verdicts[index] = one(app, scope, &events[index]).await;
            }
        }
    }
    events.iter().map(|event| event.id.clone()).zip(verdicts).collect()
}

/// A time of a query, as a column without zone takes it.
pub(crate) fn time_column(text: &str) -> Result<String, String> {
    check::Time::parse(text).map(check::Time::column)
}

/// Stores one body that came without an event around it, and says its id.
pub(crate) async fn single(
    app: &App,
    scope: &Scope,
    kind: &str,
    event_id: &str,
    body: &[u8],
) -> Result<String, Refusal> {
    let body: &RawValue = serde_json::from_slice(body)
        .map_err(|_| Refusal::Invalid(json!([{ "message": "Invalid JSON" }]).to_string()))?;
    let now = jiff::Timestamp::now().to_string();
    let event = json!({ "id": event_id, "type": kind, "timestamp": now, "body": body });
    let event = serde_json::value::to_raw_value(&event).map_err(|_| Refusal::Failed)?;
    let event = event::parse(&event).map_err(|(_, refusal)| refusal)?;
    let id = match &event.action {
        Action::Trace(body) => body.id.clone(),
        Action::Score(body) => body.id.clone(),
        _ => None,
    };
    let verdict = store(app, scope, &[event]).await.into_iter().next();
    verdict.map_or(Ok(()), |(_, verdict)| verdict)?;
    Ok(id.unwrap_or_default())
}

async fn one(app: &App, scope: &Scope, event: &Event) -> Result<(), Refusal> {
    match write::transaction(app, &scope.project_id, &[event]).await {
        Ok(outcomes) => outcomes.into_iter().next().unwrap_or(Ok(())),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, event = event.id, "an event could not be stored");
            Err(Refusal::Failed)
        }
    }
}
