//! The routes that see to the database: base backups, restore, queries, dumps.
//!
//! They listen on loopback, behind the door, and ask for the database's password themselves: other services of the
//! container can reach loopback, too.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures::stream;
use jiff::Timestamp;
use secret_string::SecretString;
use serde::Deserialize;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, Row as _};
use subtle::ConstantTimeEq as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::sync::watch;

use super::End;
use super::backup::Backups;
use super::cluster::{Cluster, READER, SUPERUSER};
use super::error::{PostgresError, Result};
use super::query::{self, QueryError};
use super::store::{self, Wish};
use crate::error::chain;
use crate::log::Log;

/// Bytes of a dump that are passed on at a time.
const PIECE: usize = 64 * 1024;

/// What the routes work with.
pub(super) struct Control {
    pub(super) cluster: Arc<Cluster>,
    pub(super) backups: Arc<Backups>,
    pub(super) password: SecretString,
    pub(super) end: watch::Sender<Option<End>>,
    pub(super) log: Log,
    pub(super) epoch: u64,
    pub(super) origin: String,
    pub(super) started_at: Timestamp,
}

impl Control {
    pub(super) async fn serve(self, listener: TcpListener) {
        let password = Arc::new(self.password.clone());
        let router = Router::new()
            .route("/goat/postgres/status", get(status))
            .route("/goat/postgres/backup", post(backup))
            .route("/goat/postgres/restore", post(restore))
            .route("/goat/postgres/query", post(ask))
            .route("/goat/postgres/dump", get(dump))
            .layer(middleware::from_fn(check))
            .layer(Extension(password))
            .with_state(Arc::new(self));
        // Fails only if the listener does, which axum itself tries again.
        let _ = axum::serve(listener, router).await;
    }

    fn failed(&self, error: &PostgresError) -> Response {
        let words = chain(error);
        self.log.say(format!("{}: {words}", self.cluster.spec.name));
        refuse(StatusCode::INTERNAL_SERVER_ERROR, &words)
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    let error = json!({ "message": why, "type": "postgres_error", "code": status.as_str() });
    (status, Json(json!({ "error": error }))).into_response()
}

async fn check(
    Extension(password): Extension<Arc<SecretString>>,
    request: Request,
    next: Next,
) -> Response {
    if is_shown(request.headers(), &password) {
        return next.run(request).await;
    }
    refuse(StatusCode::UNAUTHORIZED, "the database's password was not sent as the key")
}

fn is_shown(headers: &HeaderMap, password: &SecretString) -> bool {
    let shown = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let key = shown.and_then(|value| value.strip_prefix(b"Bearer "));
    key.is_some_and(|key| key.ct_eq(password.expose().as_bytes()).into())
}

async fn status(State(control): State<Arc<Control>>) -> Response {
    match look(&control).await {
        Ok(status) => Json(status).into_response(),
        Err(error) => control.failed(&error),
    }
}

async fn look(control: &Control) -> Result<serde_json::Value> {
    let what = "look at the archive";
    let bases = control.cluster.store.bases()?;
    let mut connection = control.cluster.connect(SUPERUSER, SUPERUSER).await?;
    let asked = "SELECT archived_count, failed_count, last_archived_wal, last_archived_time::text FROM pg_stat_archiver";
    let row = connection.fetch_one(asked).await.map_err(PostgresError::sql(what))?;
    connection.close().await.map_err(PostgresError::sql(what))?;
    let column = PostgresError::sql(what);
    let read = || -> sqlx::Result<serde_json::Value> {
        Ok(json!({
            "archived": row.try_get::<i64, _>(0)?,
            "failed": row.try_get::<i64, _>(1)?,
            "last": row.try_get::<Option<String>, _>(2)?,
            "last_at": row.try_get::<Option<String>, _>(3)?,
        }))
    };
    Ok(json!({
        "origin": control.origin,
        "started_at": control.started_at,
        "lease": control.epoch,
        "bases": bases.iter().map(|it| json!({ "name": it.name, "time": it.time })).collect::<Vec<_>>(),
        "wal": read().map_err(column)?,
    }))
}

async fn backup(State(control): State<Arc<Control>>) -> Response {
    match control.backups.make(&control.cluster).await {
        Ok(made) => Json(made).into_response(),
        Err(error) => control.failed(&error),
    }
}

async fn restore(State(control): State<Arc<Control>>, body: Bytes) -> Response {
    let wish: Wish = match serde_json::from_slice(&body) {
        Ok(wish @ (Wish { until: Some(_), base: None } | Wish { until: None, base: Some(_) })) => {
            wish
        }
        _ => {
            let why = "the body must be {\"until\": \"<time>\"} or {\"base\": \"<name>\"}";
            return refuse(StatusCode::BAD_REQUEST, why);
        }
    };
    if wish.until.is_some_and(|until| until >= Timestamp::now()) {
        return refuse(StatusCode::BAD_REQUEST, "that time has not come yet");
    }
    match prepare(&control, &wish).await {
        Ok(Some(base)) => {
            // The door still has to pass this answer on: it is drained first.
            control.end.send_replace(Some(End::Restore));
            (StatusCode::ACCEPTED, Json(json!({ "from": base }))).into_response()
        }
        Ok(None) => refuse(StatusCode::NOT_FOUND, "no base backup is as old as that"),
        Err(error) => control.failed(&error),
    }
}

/// Sees to it that there is a way back, and writes down what the next start is to do.
async fn prepare(control: &Control, wish: &Wish) -> Result<Option<String>> {
    let store = &control.cluster.store;
    let Some(base) = store::choose(&store.bases()?, wish).map(|base| base.name.clone()) else {
        return Ok(None);
    };
    let made = control.backups.make_beside(&control.cluster, &base).await?;
    control.log.say(format!(
        "{}: asked to go back; the state until now is base backup {}",
        control.cluster.spec.name, made.base
    ));
    store.set_wish(wish)?;
    Ok(Some(base))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    sql: String,
}

async fn ask(State(control): State<Arc<Control>>, body: Bytes) -> Response {
    let Ok(Query { sql }) = serde_json::from_slice(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the body must be {\"sql\": \"…\"}");
    };
    match query::ask(&control.cluster, &sql).await {
        Ok(table) => Json(table).into_response(),
        Err(QueryError::Asked(why)) => refuse(StatusCode::BAD_REQUEST, &why),
        Err(QueryError::Here(error)) => control.failed(&error),
    }
}

async fn dump(State(control): State<Arc<Control>>) -> Response {
    let host = format!("--host={}", control.cluster.run_directory().display());
    let port = format!("--port={}", control.cluster.spec.port);
    let user = format!("--username={READER}");
    let fixed = ["--no-password", "--no-owner", "--no-privileges"];
    let mut arguments = vec![host.as_str(), &port, &user];
    arguments.extend(fixed);
    arguments.push(&control.cluster.spec.database);
    let child = match control.cluster.piped("pg_dump", &arguments) {
        Ok(child) => child,
        Err(error) => return control.failed(&error),
    };
    let log = control.log.clone();
    let pieces = stream::try_unfold(child, move |child| piece(child, log.clone()));
    ([(header::CONTENT_TYPE, "application/sql")], Body::from_stream(pieces)).into_response()
}

/// The next piece. A dump that fails breaks the connection off, so that nobody takes half of one for a whole.
async fn piece(mut child: Child, log: Log) -> std::io::Result<Option<(Bytes, Child)>> {
    let mut buffer = vec![0; PIECE];
    let length = match &mut child.stdout {
        Some(stdout) => stdout.read(&mut buffer).await?,
        None => 0,
    };
    if length > 0 {
        buffer.truncate(length);
        return Ok(Some((buffer.into(), child)));
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(None);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    log.say(format!("pg_dump ended with {}: {}", output.status, words.trim()));
    Err(std::io::Error::other("pg_dump failed"))
}
