//! Administration, for whoever has the token: relays, substitutions, garbage, status, stop.

use std::net::SocketAddr;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::blocking;
use crate::ctx::Ctx;
use crate::daemon::ServerStatus;
use crate::error::Result;
use crate::failpoint;
use crate::gc::{self, Collected, Thoroughness};
use crate::relay::Relay;
use crate::room::DiskUsage;
use crate::substitution::Substitution;

pub(super) fn routes() -> Router<Ctx> {
    Router::new()
        .route("/_local/status", get(status))
        .route("/_local/usage", get(usage))
        .route("/_local/stop", post(stop))
        .route("/_local/gc", post(collect))
        .route("/_local/failpoints/{point}/{count}", post(order_end))
        .route("/_local/relays", post(create_relay))
        .route("/_local/relays/{id}", put(renew_relay).delete(delete_relay))
        .route("/.well-known/jwks.json", get(key_set))
        .route("/_local/substitutions", get(substitutions).put(replace_substitutions))
}

async fn status(State(ctx): State<Ctx>) -> Result<Json<ServerStatus>> {
    ServerStatus::of(&ctx).await.map(Json)
}

async fn usage(State(ctx): State<Ctx>) -> Result<Json<DiskUsage>> {
    let (room, dir) = (ctx.room.clone(), ctx.dir.clone());
    blocking::run(move || Ok(Json(room.usage(&dir)))).await
}

/// Begins to stop; the server is gone when its lock is free.
async fn stop(State(ctx): State<Ctx>) -> StatusCode {
    ctx.stop.cancel();
    StatusCode::ACCEPTED
}

async fn collect(State(ctx): State<Ctx>) -> Result<Json<Collected>> {
    gc::collect(&ctx, Thoroughness::CachedLayers).await.map(Json)
}

/// For tests of crashes; see [`failpoint`].
async fn order_end(Path((point, count)): Path<(String, u32)>) -> Result<StatusCode> {
    failpoint::order(point.parse()?, count)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RelayRequest {
    target: SocketAddr,
}

#[derive(Serialize)]
struct RelayAnswer {
    id: String,
    host: String,
    port: u16,
}

impl RelayAnswer {
    fn new(id: String, relay: Relay) -> Self {
        Self { id, host: relay.host, port: relay.port }
    }
}

async fn create_relay(
    State(ctx): State<Ctx>,
    Json(request): Json<RelayRequest>,
) -> Result<Json<RelayAnswer>> {
    let (id, relay) = ctx.relays.register(request.target)?;
    Ok(Json(RelayAnswer::new(id, relay)))
}

async fn renew_relay(State(ctx): State<Ctx>, Path(id): Path<String>) -> Result<Json<RelayAnswer>> {
    let relay = ctx.relays.renew(&id)?;
    Ok(Json(RelayAnswer::new(id, relay)))
}

async fn delete_relay(State(ctx): State<Ctx>, Path(id): Path<String>) -> StatusCode {
    ctx.relays.remove(&id);
    StatusCode::NO_CONTENT
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    substitutions: Vec<Substitution>,
}

/// The public key of identity tokens.
async fn key_set(State(ctx): State<Ctx>) -> Json<serde_json::Value> {
    Json(ctx.auth.identities.key_set())
}

async fn substitutions(State(ctx): State<Ctx>) -> Result<Json<Table>> {
    Ok(Json(Table { substitutions: ctx.substitutions.list().await? }))
}

async fn replace_substitutions(
    State(ctx): State<Ctx>,
    Json(table): Json<Table>,
) -> Result<StatusCode> {
    ctx.substitutions.replace(&table.substitutions).await?;
    Ok(StatusCode::NO_CONTENT)
}
