//! Answers in version 2's shapes.

use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{error::BoxError, ingestion::Refusal};

/// An answer that is no success.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// 401.
    Unauthorized { message: String },
    /// 400 with what is wrong.
    Invalid { issues: Value },
    /// 400: no JSON.
    NotJson,
    /// 400 of ingestion, which lists sentences.
    NoBatch { errors: Vec<String> },
    /// 404 as JSON.
    NotFound { message: String },
    /// 405.
    Method,
    /// 501: version 2 has it, this server does not.
    NotServed { name: String },
    /// 500.
    Internal { source: BoxError },
    /// 500 with words that a caller should see.
    Failed { message: String },
}

impl ApiError {
    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::Unauthorized { message: message.to_owned() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::NotFound { message: message.into() }
    }

    pub(crate) fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal { source: source.into() }
    }

    /// One thing wrong with one field.
    pub(crate) fn invalid(path: &str, message: impl Into<String>) -> Self {
        Self::Invalid { issues: issues(path, &message.into()) }
    }
}

/// What is wrong with a field, as version 2's validator lists it.
pub(crate) fn issues(path: &str, message: &str) -> Value {
    json!([{ "code": "custom", "path": [path], "message": message }])
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(issues) => {
                let issues = serde_json::from_str(&issues).unwrap_or_else(|_| issues.into());
                Self::Invalid { issues }
            }
            Refusal::NotFound(message) => Self::NotFound { message },
            Refusal::Failed => Self::Failed { message: "it could not be stored".to_owned() },
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(source: sqlx::Error) -> Self {
        Self::internal(source)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Unauthorized { message } => (401, json!({ "message": message })),
            Self::Invalid { issues } => {
                (400, json!({ "message": "Invalid request data", "error": issues }))
            }
            Self::NotJson => {
                return (StatusCode::BAD_REQUEST, "Invalid JSON").into_response();
            }
            Self::NoBatch { errors } => {
                (400, json!({ "message": "Invalid request data", "errors": errors }))
            }
            Self::NotFound { message } => {
                (404, json!({ "message": message, "error": "LangfuseNotFoundError" }))
            }
            Self::Method => (405, json!({ "message": "Method not allowed" })),
            Self::NotServed { name } => {
                let message = format!("langfuse-local does not serve {name}; Langfuse 2 does");
                (501, json!({ "message": message, "error": "NotServed" }))
            }
            Self::Failed { message } => {
                (500, json!({ "message": "Internal Server Error", "error": message }))
            }
            Self::Internal { source } => {
                tracing::error!(error = &*source, "a request failed");
                (500, json!({ "message": "Internal Server Error" }))
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(body)).into_response()
    }
}

/// JSON that the database wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawJson(pub(crate) String);

impl IntoResponse for RawJson {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], self.0).into_response()
    }
}

/// A page of rows, each of them JSON.
pub(crate) fn page(rows: &[String], page: i64, limit: i64, total: i64) -> RawJson {
    // Version 2 divides by a limit of zero too, and JSON has no infinity.
    let pages = if limit == 0 { Value::Null } else { ((total + limit - 1) / limit).into() };
    let meta = json!({ "page": page, "limit": limit, "totalItems": total, "totalPages": pages });
    RawJson(format!(r#"{{"data":[{}],"meta":{meta}}}"#, rows.join(",")))
}

/// Reads a request's body; the message names what is wrong and where.
pub(crate) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| ApiError::NotJson)?;
    serde_json::from_value(without_nul(value))
        .map_err(|error| ApiError::invalid("body", error.to_string()))
}

/// PostgreSQL keeps no NUL in text; version 2 takes them out.
pub(crate) fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => text.replace('\0', "").into(),
        Value::Array(values) => values.into_iter().map(without_nul).collect(),
        Value::Object(fields) => {
            let clean = |(key, value): (String, Value)| (key.replace('\0', ""), without_nul(value));
            Value::Object(fields.into_iter().map(clean).collect())
        }
        other => other,
    }
}
