//! What is in a dict.

use modal_proto::client::{DictPopResponse, DictUpdateResponse};
use sqlx::{SqliteConnection, SqlitePool};

use super::too_large;
use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::remember;
use crate::ids::DictId;

/// Largest key and value together, in bytes. Source: Modal's guide on dicts ("100 MiB"), 2026-11-26.
const MAX_ENTRY: usize = 100 << 20;
/// Entries of one update, at most. Source: as above ("10,000 entries").
const MAX_UPDATE: usize = 10_000;
/// A dict that is longer says that it is this long: the SDK's documentation of `Dict.len`.
const MAX_LEN: i64 = 100_000;
/// How long an entry stays that nobody reads or writes: the SDK's documentation of `Dict`.
const ENTRY_LIFE: f64 = 7.0 * 86_400.0;
/// A read is noted at most this often, in seconds: each note is a write.
const USE_PRECISION: f64 = 3_600.0;

/// A key and what it stands for.
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// The entries of all dicts. Clones share them. Whether a dict exists is for the caller to ask.
#[derive(Clone)]
pub(crate) struct Dicts {
    db: SqlitePool,
}

impl Dicts {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Writes entries, all of them or none; those that exist stay if `if_not_exists`.
    /// Answers whether anything was written.
    pub(crate) async fn update(
        &self,
        dict: &DictId,
        entries: &[Entry],
        if_not_exists: bool,
    ) -> Result<bool> {
        check(entries)?;
        let update = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            let written = write(&mut transaction, dict.as_str(), entries, if_not_exists).await?;
            let answer = DictUpdateResponse { created: written > 0 };
            remember(&mut transaction, "dict_update", &answer).await?;
            transaction.commit().await?;
            Ok(written > 0)
        };
        update.await.map_err(Error::database("write to a dict"))
    }

    /// The value of a key.
    pub(crate) async fn get(&self, dict: &DictId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found: Option<(Vec<u8>, f64)> =
            sqlx::query_as("SELECT value, used_at FROM dict_entries WHERE dict_id = ? AND key = ?")
                .bind(dict.as_str())
                .bind(key)
                .fetch_optional(&self.db)
                .await
                .map_err(Error::database("read from a dict"))?;
        let Some((value, used_at)) = found else { return Ok(None) };
        if used_at < clock::now() - USE_PRECISION {
            self.note_use(dict, key).await?;
        }
        Ok(Some(value))
    }

    /// Whether there is such a key.
    pub(crate) async fn contains(&self, dict: &DictId, key: &[u8]) -> Result<bool> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM dict_entries WHERE dict_id = ? AND key = ?)",
        )
        .bind(dict.as_str())
        .bind(key)
        .fetch_one(&self.db)
        .await
        .map_err(Error::database("read from a dict"))
    }

    /// Removes a key; of several callers at once, one gets the value.
    pub(crate) async fn pop(&self, dict: &DictId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let pop = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            let value: Option<Vec<u8>> = sqlx::query_scalar(
                "DELETE FROM dict_entries WHERE dict_id = ? AND key = ? RETURNING value",
            )
            .bind(dict.as_str())
            .bind(key)
            .fetch_optional(&mut *transaction)
            .await?;
            if value.is_some() {
                let answer = DictPopResponse { found: true, value: value.clone() };
                remember(&mut transaction, "dict_pop", &answer).await?;
            }
            transaction.commit().await?;
            Ok(value)
        };
        pop.await.map_err(Error::database("take from a dict"))
    }

    /// How many keys there are, up to 100,000.
    pub(crate) async fn len(&self, dict: &DictId) -> Result<i32> {
        let len: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM dict_entries WHERE dict_id = ? LIMIT ?)",
        )
        .bind(dict.as_str())
        .bind(MAX_LEN)
        .fetch_one(&self.db)
        .await
        .map_err(Error::database("count a dict"))?;
        Ok(len as i32)
    }

    /// All keys, as they are now.
    pub(crate) async fn keys(&self, dict: &DictId) -> Result<Vec<Vec<u8>>> {
        sqlx::query_scalar("SELECT key FROM dict_entries WHERE dict_id = ? ORDER BY rowid")
            .bind(dict.as_str())
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("read from a dict"))
    }

    /// Removes all entries.
    pub(crate) async fn clear(&self, dict: &DictId) -> Result<()> {
        sqlx::query("DELETE FROM dict_entries WHERE dict_id = ?")
            .bind(dict.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("clear a dict"))
    }

    /// Removes the entries that nobody has used for a week; answers how many.
    pub(crate) async fn forget_unused(&self) -> Result<u64> {
        sqlx::query("DELETE FROM dict_entries WHERE used_at < ?")
            .bind(clock::now() - ENTRY_LIFE)
            .execute(&self.db)
            .await
            .map(|done| done.rows_affected())
            .map_err(Error::database("collect garbage"))
    }

    async fn note_use(&self, dict: &DictId, key: &[u8]) -> Result<()> {
        sqlx::query("UPDATE dict_entries SET used_at = ? WHERE dict_id = ? AND key = ?")
            .bind(clock::now())
            .bind(dict.as_str())
            .bind(key)
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("note the use of a dict"))
    }
}

/// How many entries it writes.
pub(super) async fn write(
    transaction: &mut SqliteConnection,
    dict: &str,
    entries: &[Entry],
    if_not_exists: bool,
) -> Result<u64, sqlx::Error> {
    let mut written = 0;
    for Entry { key, value } in entries {
        let query = if if_not_exists {
            "INSERT INTO dict_entries (dict_id, key, value, used_at) VALUES (?, ?, ?, ?)
             ON CONFLICT DO NOTHING"
        } else {
            "INSERT INTO dict_entries (dict_id, key, value, used_at) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET value = excluded.value, used_at = excluded.used_at"
        };
        let insert = sqlx::query(query).bind(dict).bind(key).bind(value);
        written += insert.bind(clock::now()).execute(&mut *transaction).await?.rows_affected();
    }
    Ok(written)
}

/// Whether one call may write these.
pub(super) fn check(entries: &[Entry]) -> Result<()> {
    if entries.len() > MAX_UPDATE {
        return Err(too_large(&format!("an update has at most {MAX_UPDATE} entries")));
    }
    if entries.iter().any(|entry| entry.key.len() + entry.value.len() > MAX_ENTRY) {
        return Err(too_large("a dict's entry has at most 100 MiB"));
    }
    Ok(())
}
