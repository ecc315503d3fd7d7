//! Dicts and queues: what both are as named objects. What is in them is the business of
//! [`dicts`] and [`queues`].
//!
//! Everything lies in the database, so that what a call has acknowledged survives a kill.

pub(crate) mod dicts;
pub(crate) mod queues;

use prost::Message;
use sqlx::SqlitePool;

use self::dicts::Entry;
use super::creation::{Creation, Page, heartbeat_expiry};
use super::environments::Environment;
use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::{change, remember};
use crate::ids::{DictId, QueueId};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dict,
    Queue,
}

impl Kind {
    /// As the database and error messages write it.
    fn name(self) -> &'static str {
        match self {
            Self::Dict => "dict",
            Self::Queue => "queue",
        }
    }

    /// The RPC that makes one.
    fn creating(self) -> &'static str {
        match self {
            Self::Dict => "dict_get_or_create",
            Self::Queue => "queue_get_or_create",
        }
    }

    /// The RPC that deletes one.
    fn deleting(self) -> &'static str {
        match self {
            Self::Dict => "dict_delete",
            Self::Queue => "queue_delete",
        }
    }

    fn new_id(self) -> String {
        match self {
            Self::Dict => DictId::random().to_string(),
            Self::Queue => QueueId::random().to_string(),
        }
    }
}

/// A dict or a queue, without what is in it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct Collection {
    pub(crate) collection_id: String,
    pub(crate) name: Option<String>,
    pub(crate) created_at: f64,
}

/// The dicts or the queues of this server, as named objects. Clones share them.
#[derive(Clone)]
pub(crate) struct Collections {
    db: SqlitePool,
    kind: Kind,
}

impl Collections {
    pub(crate) fn new(db: SqlitePool, kind: Kind) -> Self {
        Self { db, kind }
    }

    /// Looks one up or makes it; a new dict holds `entries`. `answer` is what the client of a new one is
    /// told, also if it asks again after the server was killed.
    pub(crate) async fn get_or_create<M: Message>(
        &self,
        environment: &Environment,
        creation: &Creation,
        entries: &[Entry],
        answer: impl Fn(&Collection) -> M,
    ) -> Result<Collection> {
        let kind = self.kind.name();
        match creation {
            Creation::LookUp(name) => match self.find(environment, name).await? {
                Some(found) => Ok(found),
                None => Err(Error::not_found_in(kind, name, ("environment", &environment.name))),
            },
            Creation::IfMissing(name) => match self.find(environment, name).await? {
                Some(found) => Ok(found),
                None => self.insert(environment, creation, entries, answer).await,
            },
            Creation::Overwrite(_) => Err(Error::invalid(format!(
                "a {kind} cannot be overwritten; delete it and create it anew"
            ))),
            Creation::Anonymous(_) => {
                Err(Error::invalid(format!("a {kind} has a name or is ephemeral")))
            }
            Creation::FailIfExists(_) | Creation::Ephemeral => {
                self.insert(environment, creation, entries, answer).await
            }
        }
    }

    /// The one with this id.
    pub(crate) async fn get(&self, id: &str) -> Result<Collection> {
        sqlx::query_as("SELECT * FROM collections WHERE collection_id = ? AND kind = ?")
            .bind(id)
            .bind(self.kind.name())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a dict or queue"))?
            .ok_or_else(|| Error::not_found(self.kind.name(), id))
    }

    /// The named ones of an environment, newest first.
    pub(crate) async fn list(
        &self,
        environment: &Environment,
        page: Page,
    ) -> Result<Vec<Collection>> {
        sqlx::query_as(
            "SELECT * FROM collections
             WHERE kind = ? AND environment_id = ? AND name IS NOT NULL AND created_at < ?
             ORDER BY created_at DESC LIMIT ?",
        )
        .bind(self.kind.name())
        .bind(&environment.id)
        .bind(page.created_before)
        .bind(page.limit)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list dicts or queues"))
    }

    /// Keeps an ephemeral one for a while longer.
    pub(crate) async fn heartbeat(&self, id: &str) -> Result<()> {
        self.get(id).await?;
        sqlx::query(
            "UPDATE collections SET expires_at = ? WHERE collection_id = ? AND expires_at IS NOT NULL",
        )
        .bind(heartbeat_expiry())
        .bind(id)
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("keep a dict or queue"))
    }

    /// Removes it with everything in it.
    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        self.get(id).await?;
        let delete = sqlx::query("DELETE FROM collections WHERE collection_id = ?").bind(id);
        let deleted = change(&self.db, self.kind.deleting(), &(), delete).await;
        deleted.map(drop).map_err(Error::database("delete a dict or queue"))
    }

    async fn find(&self, environment: &Environment, name: &str) -> Result<Option<Collection>> {
        sqlx::query_as(
            "SELECT * FROM collections WHERE kind = ? AND environment_id = ? AND name = ?",
        )
        .bind(self.kind.name())
        .bind(&environment.id)
        .bind(name)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up a dict or queue"))
    }

    async fn insert<M: Message>(
        &self,
        environment: &Environment,
        creation: &Creation,
        entries: &[Entry],
        answer: impl Fn(&Collection) -> M,
    ) -> Result<Collection> {
        dicts::check(entries)?;
        let new = Collection {
            collection_id: self.kind.new_id(),
            name: creation.name().map(str::to_owned),
            created_at: clock::unique_now(),
        };
        let insert = sqlx::query(
            "INSERT INTO collections
             (collection_id, kind, environment_id, name, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, environment_id, name) DO NOTHING",
        )
        .bind(&new.collection_id)
        .bind(self.kind.name())
        .bind(&environment.id)
        .bind(creation.name())
        .bind(new.created_at)
        .bind(creation.expiry());
        let make = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            let made = insert.execute(&mut *transaction).await?.rows_affected() == 1;
            if made {
                dicts::write(&mut transaction, &new.collection_id, entries, false).await?;
                remember(&mut transaction, self.kind.creating(), &answer(&new)).await?;
            }
            transaction.commit().await?;
            Ok(made)
        };
        if make.await.map_err(Error::database("create a dict or queue"))? {
            return Ok(new);
        }
        let name = creation.name().unwrap_or_default();
        match (creation, self.find(environment, name).await?) {
            (Creation::IfMissing(_), Some(found)) => Ok(found),
            _ => Err(Error::already_exists(self.kind.name(), name)),
        }
    }
}

/// Removes ephemeral dicts and queues whose heartbeats have stopped; answers how many.
pub(crate) async fn end_expired(db: &SqlitePool) -> Result<u64> {
    sqlx::query("DELETE FROM collections WHERE expires_at < ?")
        .bind(clock::now())
        .execute(db)
        .await
        .map(|done| done.rows_affected())
        .map_err(Error::database("collect garbage"))
}

/// Why a request is too large to be taken.
///
/// Python's SDK looks for `status = '413'` in the message, and raises `RequestSizeError` for it.
fn too_large(what: &str) -> Error {
    Error::Invalid(format!("{what}: the request is too large (status = '413')"))
}
