//! Secrets: names and keys in the database, values in the [`SecretStore`].

use std::collections::BTreeMap;

use modal_proto::client::{SecretGetOrCreateResponse, SecretSource, secret_source};
use sqlx::SqlitePool;

use super::creation::{Creation, Page};
use super::environments::Environment;
use super::secret_store::{SecretStore, Variables};
use crate::blocking;
use crate::clock;
use crate::error::{Error, Result};
use crate::failpoint::{Point, reach};
use crate::idempotency::change;
use crate::ids::SecretId;

/// Longest name of a variable.
const MAX_KEY: usize = 16_384;

/// A secret without its values.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct SecretRecord {
    pub(crate) secret_id: String,
    pub(crate) environment_id: String,
    pub(crate) name: Option<String>,
    key_names: String,
    pub(crate) created_at: f64,
    pub(crate) last_used_at: Option<f64>,
}

impl SecretRecord {
    /// The names of its variables, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        serde_json::from_str(&self.key_names).unwrap_or_default()
    }
}

/// The secrets of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Secrets {
    db: SqlitePool,
    store: SecretStore,
}

impl Secrets {
    pub(crate) fn new(db: SqlitePool, store: SecretStore) -> Self {
        Self { db, store }
    }

    /// Looks up or makes a secret; on look-up it must have the `required` keys. `answer` is what the client
    /// of a new one is told, also if it asks again after the server was killed.
    pub(crate) async fn get_or_create(
        &self,
        environment: &Environment,
        creation: &Creation,
        variables: Variables,
        required: &[String],
        answer: impl Fn(&SecretRecord) -> SecretGetOrCreateResponse,
    ) -> Result<SecretRecord> {
        check_variables(&variables)?;
        check_names(variables.keys())?;
        match creation {
            Creation::LookUp(name) => {
                let found = self.find(environment, name).await?;
                let record = found.ok_or_else(|| not_found(name, environment))?;
                check_required(&record, required).map(|()| record)
            }
            Creation::IfMissing(name) => match self.find(environment, name).await? {
                Some(record) => Ok(record),
                None => self.insert(environment, creation, variables, answer).await,
            },
            Creation::Overwrite(name) => match self.find(environment, name).await? {
                Some(record) => self.replace(&record, &variables).await,
                None => self.insert(environment, creation, variables, answer).await,
            },
            _ => self.insert(environment, creation, variables, answer).await,
        }
    }

    /// One secret's record.
    pub(crate) async fn get(&self, id: &SecretId) -> Result<SecretRecord> {
        sqlx::query_as("SELECT * FROM secrets WHERE secret_id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a secret"))?
            .ok_or_else(|| Error::not_found("secret", id))
    }

    /// The named secrets of an environment, newest first.
    pub(crate) async fn list(
        &self,
        environment: &Environment,
        page: Page,
    ) -> Result<Vec<SecretRecord>> {
        sqlx::query_as(
            "SELECT * FROM secrets WHERE environment_id = ? AND name IS NOT NULL AND created_at < ?
             ORDER BY created_at DESC LIMIT ?",
        )
        .bind(&environment.id)
        .bind(page.created_before)
        .bind(page.limit)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list secrets"))
    }

    /// Sets variables, or removes those that come without a value.
    pub(crate) async fn update(
        &self,
        id: &SecretId,
        changes: BTreeMap<String, Option<crate::SecretString>>,
    ) -> Result<()> {
        check_names(changes.keys())?;
        let record = self.get(id).await?;
        let (store, secret) = (self.store.clone(), id.clone());
        let mut variables = blocking::run(move || store.read(&secret)).await?;
        for (key, value) in changes {
            match value {
                Some(value) => variables.insert(key, value),
                None => variables.remove(&key),
            };
        }
        check_variables(&variables)?;
        self.replace(&record, &variables).await.map(drop)
    }

    /// Removes a secret and its values.
    pub(crate) async fn delete(&self, id: &SecretId) -> Result<()> {
        self.get(id).await?;
        let delete = sqlx::query("DELETE FROM secrets WHERE secret_id = ?").bind(id.as_str());
        let deleted = change(&self.db, "secret_delete", &(), delete).await;
        deleted.map_err(Error::database("delete a secret"))?;
        let (store, id) = (self.store.clone(), id.clone());
        blocking::run(move || store.remove(&id)).await
    }

    /// The variables of these secrets; of equal names the last one's.
    pub(crate) async fn env_of(&self, ids: &[SecretId]) -> Result<Variables> {
        let mut merged = Variables::new();
        for id in ids {
            self.get(id).await?;
            let (store, id) = (self.store.clone(), id.clone());
            merged.extend(blocking::run(move || store.read(&id)).await?);
        }
        self.note_use(ids).await?;
        Ok(merged)
    }

    /// The variables of a list of secrets and inline maps; of equal names the last one's.
    pub(crate) async fn resolve_sources(&self, sources: &[SecretSource]) -> Result<Variables> {
        let mut merged = Variables::new();
        for source in sources {
            match &source.source {
                Some(secret_source::Source::SecretId(id)) => {
                    merged.extend(self.env_of(&[SecretId::parse(id)?]).await?);
                }
                Some(secret_source::Source::Env(map)) => {
                    let values = map.contents.iter();
                    merged.extend(values.map(|(key, value)| (key.clone(), value.as_str().into())));
                }
                None => {}
            }
        }
        check_variables(&merged)?;
        Ok(merged)
    }

    async fn find(&self, environment: &Environment, name: &str) -> Result<Option<SecretRecord>> {
        sqlx::query_as("SELECT * FROM secrets WHERE environment_id = ? AND name = ?")
            .bind(&environment.id)
            .bind(name)
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a secret"))
    }

    async fn insert(
        &self,
        environment: &Environment,
        creation: &Creation,
        variables: Variables,
        answer: impl Fn(&SecretRecord) -> SecretGetOrCreateResponse,
    ) -> Result<SecretRecord> {
        let id = SecretId::random();
        let record = SecretRecord {
            secret_id: id.to_string(),
            environment_id: environment.id.clone(),
            name: creation.name().map(str::to_owned),
            key_names: encode_keys(&variables)?,
            created_at: clock::unique_now(),
            last_used_at: None,
        };
        self.write(&id, variables).await?;
        reach(Point::SecretStored);
        let insert = sqlx::query(
            "INSERT INTO secrets
             (secret_id, environment_id, name, key_names, app_id, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (environment_id, name) DO NOTHING",
        )
        .bind(id.as_str())
        .bind(&environment.id)
        .bind(creation.name())
        .bind(&record.key_names)
        .bind(creation.owner().map(|app| app.as_str()))
        .bind(record.created_at)
        .bind(creation.unkept_expiry());
        let made = change(&self.db, "secret_get_or_create", &answer(&record), insert).await;
        if made.map_err(Error::database("create a secret"))? == 1 {
            return Ok(record);
        }
        let store = self.store.clone();
        blocking::run(move || store.remove(&id)).await?;
        let name = creation.name().unwrap_or_default();
        match (creation, self.find(environment, name).await?) {
            (Creation::IfMissing(_), Some(record)) => Ok(record),
            _ => Err(Error::already_exists("secret", name)),
        }
    }

    async fn replace(&self, record: &SecretRecord, variables: &Variables) -> Result<SecretRecord> {
        let id = SecretId::parse(&record.secret_id)?;
        self.write(&id, variables.clone()).await?;
        sqlx::query("UPDATE secrets SET key_names = ? WHERE secret_id = ?")
            .bind(encode_keys(variables)?)
            .bind(id.as_str())
            .execute(&self.db)
            .await
            .map_err(Error::database("change a secret"))?;
        self.get(&id).await
    }

    async fn write(&self, id: &SecretId, variables: Variables) -> Result<()> {
        let (store, id) = (self.store.clone(), id.clone());
        blocking::run(move || store.write(&id, &variables)).await
    }

    async fn note_use(&self, ids: &[SecretId]) -> Result<()> {
        for id in ids {
            sqlx::query("UPDATE secrets SET last_used_at = ? WHERE secret_id = ?")
                .bind(clock::now())
                .bind(id.as_str())
                .execute(&self.db)
                .await
                .map_err(Error::database("note the use of a secret"))?;
        }
        Ok(())
    }
}

fn encode_keys(variables: &Variables) -> Result<String> {
    let keys: Vec<&String> = variables.keys().collect();
    serde_json::to_string(&keys).map_err(|error| Error::invalid(error.to_string()))
}

/// Names and values can be put into an environment.
fn check_variables(variables: &Variables) -> Result<()> {
    for (key, value) in variables {
        if key.is_empty() || key.len() > MAX_KEY || key.contains(['=', '\0']) {
            return Err(Error::invalid("a secret's key must not be empty or contain `=` or NUL"));
        }
        if value.expose().contains('\0') {
            return Err(Error::invalid(format!("the value of `{key}` must not contain NUL")));
        }
    }
    Ok(())
}

/// What a secret that is kept may name, which is less than what Linux takes: a shell can use each of
/// them. Source: `_validate_sandbox_env` of the Python package 1.6.4.
fn check_names<'k>(keys: impl IntoIterator<Item = &'k String>) -> Result<()> {
    let is_name = |key: &String| {
        let known = |it: char| it.is_ascii_alphanumeric() || it == '_';
        !key.starts_with(|first: char| first.is_ascii_digit()) && key.chars().all(known)
    };
    match keys.into_iter().find(|key| !key.is_empty() && !is_name(key)) {
        Some(key) => Err(Error::invalid(format!(
            "Secret key name `{}` is invalid for an environment variable: use letters, digits and \
             underscores, not a digit first",
            key.chars().take(64).collect::<String>()
        ))),
        None => Ok(()),
    }
}

fn check_required(record: &SecretRecord, required: &[String]) -> Result<()> {
    let keys = record.keys();
    let missing: Vec<&str> =
        required.iter().filter(|key| !keys.contains(key)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // The JavaScript SDK knows this text by its beginning.
    Err(Error::Precondition(format!("Secret is missing key(s): {}", missing.join(", "))))
}

fn not_found(name: &str, environment: &Environment) -> Error {
    Error::not_found_in("secret", name, ("environment", &environment.name))
}
