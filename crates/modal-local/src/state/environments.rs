//! Environments: name spaces for all other objects.

use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

use super::creation::Creation;
use super::workspace_settings::WorkspaceSettings;
use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::change;
use crate::ids::EnvironmentId;

/// The environment that is always there, and the default one until another is set.
pub(crate) const FIRST: &str = "main";

/// An environment.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) settings: Settings,
    pub(crate) created_at: f64,
}

/// What can be set on an environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) image_builder_version: String,
    pub(crate) webhook_suffix: String,
    pub(crate) max_concurrent_tasks: Option<i32>,
    pub(crate) max_concurrent_gpus: Option<i32>,
    /// Who may do what in it is set by roles.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) restricted: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) public: bool,
    /// The role of members without one of their own: an `EnvironmentRole`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_role: Option<i32>,
    /// The role that the one user was given: an `EnvironmentRole`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user_role: Option<i32>,
}

#[derive(sqlx::FromRow)]
struct Row {
    environment_id: String,
    name: String,
    settings: String,
    created_at: f64,
}

/// The environments of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Environments {
    db: SqlitePool,
    workspace: WorkspaceSettings,
}

impl Environments {
    /// Opens the records and makes the first environment.
    pub(crate) async fn open(db: SqlitePool, workspace: WorkspaceSettings) -> Result<Self> {
        let environments = Self { db, workspace };
        environments.insert(FIRST, Settings::default()).await?;
        Ok(environments)
    }

    /// The environment of this name; the default one if the name is empty.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Environment> {
        let name =
            if name.is_empty() { self.workspace.default_environment() } else { name.to_owned() };
        self.find(&name).await?.ok_or_else(|| Error::not_found("environment", name))
    }

    /// The environment with this id.
    pub(crate) async fn get(&self, id: &str) -> Result<Environment> {
        self.resolve(&self.name_of(id).await?).await
    }

    /// Whether requests that name no environment mean this one.
    pub(crate) fn is_default(&self, name: &str) -> bool {
        self.workspace.default_environment() == name
    }

    /// The name of the environment with this id.
    pub(crate) async fn name_of(&self, id: &str) -> Result<String> {
        sqlx::query_scalar("SELECT name FROM environments WHERE environment_id = ?")
            .bind(id)
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up an environment"))?
            .ok_or_else(|| Error::not_found("environment", id))
    }

    /// Looks up or makes an environment.
    pub(crate) async fn get_or_create(&self, creation: &Creation) -> Result<Environment> {
        match creation {
            Creation::LookUp(name) => self.resolve(name).await,
            Creation::IfMissing(name) | Creation::Overwrite(name) => {
                self.check_name(name)?;
                self.insert(name, Settings::default()).await?;
                self.resolve(name).await
            }
            Creation::FailIfExists(name) => self.create(name, Settings::default()).await,
            Creation::Anonymous(_) | Creation::Ephemeral => {
                Err(Error::invalid("an environment needs a name"))
            }
        }
    }

    /// Makes an environment whose name must be new.
    pub(crate) async fn create(&self, name: &str, settings: Settings) -> Result<Environment> {
        self.check_name(name)?;
        if !self.insert(name, settings).await? {
            return Err(Error::already_exists("environment", name));
        }
        self.resolve(name).await
    }

    /// All of them, the oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<Environment>> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM environments ORDER BY created_at")
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("list environments"))?;
        Ok(rows.into_iter().map(Environment::from).collect())
    }

    /// Renames it or changes its settings.
    pub(crate) async fn update(&self, current: &str, changed: &Environment) -> Result<()> {
        if changed.name != current {
            self.check_name(&changed.name)?;
            if current == FIRST || self.is_default(current) {
                return Err(Error::Precondition(format!("`{current}` cannot be renamed")));
            }
        }
        let settings = encode(&changed.settings)?;
        let update = sqlx::query("UPDATE environments SET name = ?, settings = ? WHERE name = ?")
            .bind(&changed.name)
            .bind(settings)
            .bind(current);
        match update.execute(&self.db).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(Error::already_exists("environment", &changed.name))
            }
            other => other.map(drop).map_err(Error::database("change an environment")),
        }
    }

    /// Removes the record, and by that the records of everything in it.
    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        let delete = sqlx::query("DELETE FROM environments WHERE environment_id = ?").bind(id);
        let deleted = change(&self.db, "environment_delete", &(), delete).await;
        deleted.map(drop).map_err(Error::database("delete an environment"))
    }

    async fn find(&self, name: &str) -> Result<Option<Environment>> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM environments WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up an environment"))?;
        Ok(row.map(Environment::from))
    }

    /// Makes the record; false if the name is taken.
    async fn insert(&self, name: &str, mut settings: Settings) -> Result<bool> {
        if settings.image_builder_version.is_empty() {
            settings.image_builder_version = self.workspace.image_builder_version();
        }
        let insert = sqlx::query(
            "INSERT INTO environments (environment_id, name, settings, created_at)
             VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
        )
        .bind(EnvironmentId::random().as_str())
        .bind(name)
        .bind(encode(&settings)?)
        .bind(clock::unique_now());
        let made = change(&self.db, "environment_create", &(), insert).await;
        Ok(made.map_err(Error::database("create an environment"))? == 1)
    }

    fn check_name(&self, name: &str) -> Result<()> {
        super::creation::check_name(name)?;
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
        if !starts_well || name.starts_with(EnvironmentId::PREFIX) {
            return Err(Error::invalid(format!(
                "invalid name `{name}`: an environment's begins with a letter or digit, not `en-`"
            )));
        }
        Ok(())
    }
}

fn encode(settings: &Settings) -> Result<String> {
    serde_json::to_string(settings).map_err(|error| Error::invalid(error.to_string()))
}

impl From<Row> for Environment {
    fn from(row: Row) -> Self {
        let settings = serde_json::from_str(&row.settings).unwrap_or_default();
        let Row { environment_id: id, name, created_at, .. } = row;
        Self { id, name, settings, created_at }
    }
}
