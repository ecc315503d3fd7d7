//! Apps: what owns sandboxes, logs and anonymous objects.

use modal_proto::client::{AppCreateResponse, AppState};
use sqlx::SqlitePool;

use super::creation::{Creation, check_name};
use super::environments::Environment;
use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::remember;
use crate::ids::AppId;

/// How long an app that sends heartbeats lives without one; clients send one every 15 seconds.
const HEARTBEAT_LIFE: f64 = 90.0;

/// An app's record.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct AppRecord {
    pub(crate) app_id: String,
    pub(crate) environment_id: String,
    pub(crate) name: Option<String>,
    pub(crate) description: String,
    state: i32,
    pub(crate) created_at: f64,
    pub(crate) deployed_at: Option<f64>,
    pub(crate) stopped_at: Option<f64>,
}

impl AppRecord {
    pub(crate) fn state(&self) -> AppState {
        AppState::try_from(self.state).unwrap_or(AppState::Unspecified)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped_at.is_some()
    }
}

/// The apps of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Apps {
    db: SqlitePool,
}

impl Apps {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Looks up or makes an app by name; it stays until it is stopped.
    pub(crate) async fn get_or_create(
        &self,
        environment: &Environment,
        creation: &Creation,
    ) -> Result<AppRecord> {
        let Some(name) = creation.name() else {
            return Err(Error::invalid("an app that is looked up needs a name"));
        };
        match (creation, self.find(environment, name).await?) {
            (Creation::FailIfExists(_), Some(_)) => Err(Error::already_exists("app", name)),
            (_, Some(app)) => Ok(app),
            (Creation::LookUp(_), None) => {
                let name = format!("{name}` in environment `{}", environment.name);
                Err(Error::not_found("app", name))
            }
            (_, None) => self.insert_named(environment, name).await,
        }
    }

    /// Makes an app without a name: one run of a client's code. `repeated` is what a client is answered
    /// that asks for it again after the server was killed.
    pub(crate) async fn create(
        &self,
        environment: &Environment,
        description: &str,
        state: AppState,
        repeated: impl FnOnce(&AppId) -> AppCreateResponse,
    ) -> Result<AppRecord> {
        let id = AppId::random();
        let expires_at = expires(state).then(|| clock::now() + HEARTBEAT_LIFE);
        let insert = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query(
                "INSERT INTO apps (app_id, environment_id, description, state, created_at, expires_at)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(id.as_str())
            .bind(&environment.id)
            .bind(description)
            .bind(state as i32)
            .bind(clock::unique_now())
            .bind(expires_at)
            .execute(&mut *transaction)
            .await?;
            remember(&mut transaction, "app_create", &repeated(&id)).await?;
            transaction.commit().await
        };
        insert.await.map_err(Error::database("create an app"))?;
        self.get(&id).await
    }

    /// One app's record.
    pub(crate) async fn get(&self, id: &AppId) -> Result<AppRecord> {
        sqlx::query_as("SELECT * FROM apps WHERE app_id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up an app"))?
            .ok_or_else(|| Error::not_found("app", id))
    }

    /// The app that may be given new work.
    pub(crate) async fn get_running(&self, id: &AppId) -> Result<AppRecord> {
        let app = self.get(id).await?;
        if app.is_stopped() {
            return Err(Error::Precondition(format!("app `{id}` is stopped")));
        }
        Ok(app)
    }

    /// The running app of this name.
    pub(crate) async fn find(
        &self,
        environment: &Environment,
        name: &str,
    ) -> Result<Option<AppRecord>> {
        sqlx::query_as(
            "SELECT * FROM apps WHERE environment_id = ? AND name = ? AND stopped_at IS NULL",
        )
        .bind(&environment.id)
        .bind(name)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up an app"))
    }

    /// The app of this name that was stopped last.
    pub(crate) async fn find_stopped(
        &self,
        environment: &Environment,
        name: &str,
    ) -> Result<Option<AppRecord>> {
        sqlx::query_as(
            "SELECT * FROM apps WHERE environment_id = ? AND name = ? AND stopped_at IS NOT NULL
             ORDER BY stopped_at DESC LIMIT 1",
        )
        .bind(&environment.id)
        .bind(name)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up an app"))
    }

    /// All apps of an environment, newest first.
    pub(crate) async fn list(&self, environment: &Environment) -> Result<Vec<AppRecord>> {
        sqlx::query_as("SELECT * FROM apps WHERE environment_id = ? ORDER BY created_at DESC")
            .bind(&environment.id)
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("list apps"))
    }

    /// Keeps an ephemeral app for a while longer; an error if it is stopped.
    pub(crate) async fn heartbeat(&self, id: &AppId) -> Result<()> {
        self.get_running(id).await?;
        sqlx::query("UPDATE apps SET expires_at = ? WHERE app_id = ? AND expires_at IS NOT NULL")
            .bind(clock::now() + HEARTBEAT_LIFE)
            .bind(id.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("keep an app"))
    }

    /// Gives an app of one run the state it keeps until it is stopped; an error if it is stopped.
    pub(crate) async fn publish(&self, id: &AppId, state: AppState) -> Result<()> {
        let app = self.get_running(id).await?;
        if app.name.is_some() {
            return Err(Error::Precondition(format!("app `{id}` is deployed, not one run")));
        }
        let expires_at = expires(state).then(|| clock::now() + HEARTBEAT_LIFE);
        sqlx::query(
            "UPDATE apps SET state = ?, expires_at = ? WHERE app_id = ? AND stopped_at IS NULL",
        )
        .bind(state as i32)
        .bind(expires_at)
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("publish an app"))
    }

    /// Gives an app a name under which it can be found, and keeps it until it is stopped.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if another running app has the name.
    pub(crate) async fn deploy(&self, id: &AppId, name: &str, at: f64) -> Result<()> {
        check_name(name)?;
        let app = self.get_running(id).await?;
        if app.name.as_deref().is_some_and(|own| own != name) {
            let own = app.name.unwrap_or_default();
            return Err(Error::Precondition(format!("app `{id}` is deployed as `{own}`")));
        }
        let done = sqlx::query(
            "UPDATE OR IGNORE apps SET name = ?1, description = ?1, state = ?2, deployed_at = ?3,
             expires_at = NULL WHERE app_id = ?4 AND stopped_at IS NULL",
        )
        .bind(name)
        .bind(AppState::Deployed as i32)
        .bind(at)
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map_err(Error::database("deploy an app"))?;
        if done.rows_affected() == 0 {
            return Err(Error::already_exists("app", name));
        }
        Ok(())
    }

    /// The apps that stay until they are stopped.
    pub(crate) async fn deployed(&self) -> Result<Vec<AppId>> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT app_id FROM apps WHERE state = ? AND stopped_at IS NULL ORDER BY created_at",
        )
        .bind(AppState::Deployed as i32)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list apps"))?;
        ids.iter().map(|id| AppId::parse(id).map_err(Error::from)).collect()
    }

    /// Marks an app as stopped; false if it was stopped before.
    pub(crate) async fn mark_stopped(&self, id: &AppId) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE apps SET state = ?, stopped_at = ?, expires_at = NULL
             WHERE app_id = ? AND stopped_at IS NULL",
        )
        .bind(AppState::Stopped as i32)
        .bind(clock::now())
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map_err(Error::database("stop an app"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Running apps whose client sends no heartbeats any more.
    pub(crate) async fn expired(&self) -> Result<Vec<AppId>> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT app_id FROM apps WHERE expires_at < ? AND stopped_at IS NULL",
        )
        .bind(clock::now())
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list apps"))?;
        ids.iter().map(|id| AppId::parse(id).map_err(Error::from)).collect()
    }

    /// Gives those apps as long as if a heartbeat had come now: their clients could not be heard.
    pub(crate) async fn wait_for_silent(&self) -> Result<()> {
        let now = clock::now();
        sqlx::query("UPDATE apps SET expires_at = ? WHERE expires_at < ? AND stopped_at IS NULL")
            .bind(now + HEARTBEAT_LIFE)
            .bind(now)
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("keep apps"))
    }

    async fn insert_named(&self, environment: &Environment, name: &str) -> Result<AppRecord> {
        let now = clock::unique_now();
        sqlx::query(
            "INSERT INTO apps
             (app_id, environment_id, name, description, state, created_at, deployed_at)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(AppId::random().as_str())
        .bind(&environment.id)
        .bind(name)
        .bind(name)
        .bind(AppState::Deployed as i32)
        .bind(now)
        .bind(now)
        .execute(&self.db)
        .await
        .map_err(Error::database("create an app"))?;
        let made = self.find(environment, name).await?;
        made.ok_or_else(|| Error::not_found("app", name))
    }
}

/// Whether an app in this state lives by its client's heartbeats.
fn expires(state: AppState) -> bool {
    matches!(state, AppState::Ephemeral | AppState::Initializing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::environments::Environments;
    use crate::state::workspace_settings::WorkspaceSettings;

    #[tokio::test]
    async fn an_app_whose_client_could_not_be_heard_is_given_time_again() {
        let dir = tempfile::tempdir().unwrap();
        let db = crate::state::database::open(&dir.path().join("records.sqlite")).await.unwrap();
        let workspace = WorkspaceSettings::open(db.clone(), "2025.06".to_owned()).await.unwrap();
        let environments = Environments::open(db.clone(), workspace).await.unwrap();
        let apps = Apps::new(db.clone());
        let main = environments.resolve("main").await.unwrap();
        let answer =
            |id: &AppId| AppCreateResponse { app_id: id.to_string(), ..Default::default() };
        let silent = apps.create(&main, "silent", AppState::Ephemeral, answer).await.unwrap();
        apps.create(&main, "heard", AppState::Ephemeral, answer).await.unwrap();
        sqlx::query("UPDATE apps SET expires_at = 1 WHERE app_id = ?")
            .bind(&silent.app_id)
            .execute(&db)
            .await
            .unwrap();
        let expired = apps.expired().await.unwrap();
        assert_eq!(expired.iter().map(AppId::as_str).collect::<Vec<_>>(), [silent.app_id.as_str()]);
        apps.wait_for_silent().await.unwrap();
        assert!(apps.expired().await.unwrap().is_empty());
    }
}
