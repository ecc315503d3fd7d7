//! Who asks: Basic with both keys for everything, Bearer with the public key for scores.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use crate::{init::fast_hash, respond::ApiError, server::App, settings::Secret};

/// The project of the caller's keys.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) project_id: String,
    pub(crate) access: Access,
}

/// What the keys allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    All,
    Scores,
}

impl Scope {
    /// For everything but writing scores.
    pub(crate) fn full(self) -> Result<Self, ApiError> {
        match self.access {
            Access::All => Ok(self),
            Access::Scores => Err(ApiError::unauthorized(
                "Access denied - need to use basic auth with secret key",
            )),
        }
    }
}

/// A caller with both keys.
#[derive(Debug, Clone)]
pub(crate) struct Full(pub(crate) Scope);

impl FromRequestParts<App> for Scope {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let header = header.ok_or_else(|| ApiError::unauthorized("No authorization header"))?;
        match header.split_once(' ') {
            Some((scheme, value)) if scheme.eq_ignore_ascii_case("basic") => {
                basic(app, value).await
            }
            Some((scheme, value)) if scheme.eq_ignore_ascii_case("bearer") => {
                bearer(app, value).await
            }
            _ => Err(ApiError::unauthorized("Invalid authorization header")),
        }
    }
}

impl FromRequestParts<App> for Full {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Scope::from_request_parts(parts, app).await?.full().map(Self)
    }
}

fn invalid() -> ApiError {
    ApiError::unauthorized("Invalid credentials. Confirm that you've configured the correct host.")
}

/// Fast hashes of true secrets that are known to be made with the salt of now. A stored one need not be: the salt may
/// have changed since.
#[derive(Debug, Clone, Default)]
pub(crate) struct FastHashes(Arc<Mutex<HashSet<String>>>);

impl FastHashes {
    pub(crate) fn add(&self, hash: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(hash);
    }

    fn has(&self, hash: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(hash)
    }
}

#[derive(sqlx::FromRow)]
struct Key {
    id: String,
    project_id: String,
    hashed_secret_key: String,
    fast_hashed_secret_key: Option<String>,
}

async fn key(app: &App, public: &str) -> Result<Key, ApiError> {
    let key = sqlx::query_as(
        "SELECT id, project_id, hashed_secret_key, fast_hashed_secret_key FROM api_keys
         WHERE public_key = $1 AND (expires_at IS NULL OR expires_at > CURRENT_TIMESTAMP)",
    );
    let key: Option<Key> = key.bind(public).fetch_optional(&app.pool).await?;
    key.ok_or_else(invalid)
}

async fn basic(app: &App, value: &str) -> Result<Scope, ApiError> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(value.trim());
    let pair = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(invalid)?;
    let (public, secret) = pair.split_once(':').ok_or_else(invalid)?;
    let key = key(app, public).await?;
    let fast = fast_hash(secret, &app.salt);
    let known = key.fast_hashed_secret_key.as_deref().unwrap_or_default();
    if !bool::from(known.as_bytes().ct_eq(fast.as_bytes())) {
        // With this salt, another fast hash is another secret: nothing is left to find out.
        if app.fast_hashes.has(known) {
            return Err(invalid());
        }
        slow(app, &key, Secret::new(secret), &fast).await?;
    }
    app.fast_hashes.add(fast);
    Ok(Scope { project_id: key.project_id, access: Access::All })
}

/// The salt changed, or the key was made by an older server: bcrypt decides, and the fast hash is written anew.
async fn slow(app: &App, key: &Key, secret: Secret, fast: &str) -> Result<(), ApiError> {
    let hashed = key.hashed_secret_key.clone();
    let matches = move || bcrypt::verify(secret.expose(), &hashed).unwrap_or(false);
    let matches = tokio::task::spawn_blocking(matches).await.map_err(ApiError::internal)?;
    if !matches {
        return Err(invalid());
    }
    sqlx::query("UPDATE api_keys SET fast_hashed_secret_key = $1 WHERE id = $2")
        .bind(fast)
        .bind(&key.id)
        .execute(&app.pool)
        .await?;
    Ok(())
}

async fn bearer(app: &App, public: &str) -> Result<Scope, ApiError> {
    let key = key(app, public.trim()).await?;
    Ok(Scope { project_id: key.project_id, access: Access::Scores })
}
