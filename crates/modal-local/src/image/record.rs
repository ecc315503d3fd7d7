//! The rows of images.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sqlx::{Row as _, SqlitePool};

use super::config::ImageConfig;
use super::definition::Definition;
use super::layer::LayerId;
use crate::error::{Error, Result};
use crate::idempotency::remember;
use crate::ids::ImageId;

/// A built image, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Built {
    /// Lowest first; those that change nothing are left out.
    pub(crate) layers: Vec<LayerId>,
    /// The name of the last step's result, from which further steps go on.
    pub(crate) tip: LayerId,
    pub(crate) config: ImageConfig,
    /// What stands in for what, one sentence each.
    pub(crate) substitutions: Vec<String>,
}

/// How far an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Under way, or cut short by the end of a server.
    Building,
    Built(Box<Built>),
    /// With the reason.
    Failed(String),
}

/// One image.
#[derive(Debug, Clone)]
pub(crate) struct ImageRecord {
    pub(crate) id: ImageId,
    pub(crate) definition_hash: String,
    pub(crate) definition: Definition,
    pub(crate) progress: Progress,
}

const COLUMNS: &str = "image_id, definition_hash, definition, status, exception, built";

/// The table of images. Clones share it.
#[derive(Clone)]
pub(crate) struct ImageRecords {
    db: SqlitePool,
}

impl ImageRecords {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    pub(crate) async fn get(&self, id: &ImageId) -> Result<Option<ImageRecord>> {
        self.find(&format!("{COLUMNS} FROM images WHERE image_id = ? AND deleted_at IS NULL"), id)
            .await
    }

    /// One that was deleted and is still needed, too.
    pub(crate) async fn get_even_deleted(&self, id: &ImageId) -> Result<Option<ImageRecord>> {
        self.find(&format!("{COLUMNS} FROM images WHERE image_id = ?"), id).await
    }

    /// Whether it was there once.
    pub(crate) async fn is_deleted(&self, id: &ImageId) -> Result<bool> {
        let query =
            "SELECT EXISTS (SELECT 1 FROM images WHERE image_id = ? AND deleted_at IS NOT NULL)";
        let found = sqlx::query_scalar(query).bind(id.as_str()).fetch_one(&self.db).await;
        found.map_err(Error::database("look up an image"))
    }

    async fn find(&self, what: &str, id: &ImageId) -> Result<Option<ImageRecord>> {
        let query = format!("SELECT {what}");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await;
        row.map_err(Error::database("look up an image"))?.map(|row| read(&row)).transpose()
    }

    /// The newest image of a definition.
    pub(crate) async fn newest(&self, definition_hash: &str) -> Result<Option<ImageRecord>> {
        let query = format!(
            "SELECT {COLUMNS} FROM images WHERE definition_hash = ? AND deleted_at IS NULL \
             ORDER BY created_at DESC LIMIT 1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(definition_hash)
            .fetch_optional(&self.db)
            .await;
        row.map_err(Error::database("look up an image"))?.map(|row| read(&row)).transpose()
    }

    /// Records that a build begins; an earlier, failed or lost one is forgotten.
    pub(crate) async fn begin(
        &self,
        id: &ImageId,
        definition_hash: &str,
        definition: &Definition,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO images (image_id, definition_hash, definition, status, created_at) \
             VALUES (?, ?, ?, 'building', ?) ON CONFLICT (image_id) DO UPDATE SET \
             definition = excluded.definition, status = 'building', exception = NULL, \
             built = NULL, finished_at = NULL, deleted_at = NULL, expires_at = NULL",
        )
        .bind(id.as_str())
        .bind(definition_hash)
        .bind(to_json(definition))
        .bind(crate::clock::unique_now())
        .execute(&self.db)
        .await
        .map_err(Error::database("record an image"))?;
        Ok(())
    }

    /// Records how a build ended.
    pub(crate) async fn finish(&self, id: &ImageId, end: &Result<Built, String>) -> Result<()> {
        let (status, exception, built) = match end {
            Ok(built) => ("built", None, Some(to_json(built))),
            Err(exception) => ("failed", Some(exception.as_str()), None),
        };
        sqlx::query(
            "UPDATE images SET status = ?, exception = ?, built = ?, finished_at = ? \
             WHERE image_id = ?",
        )
        .bind(status)
        .bind(exception)
        .bind(built)
        .bind(crate::clock::now())
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map_err(Error::database("record the end of a build"))?;
        Ok(())
    }

    /// Records an image that is there without a build; it ends at `expires_at`.
    pub(crate) async fn insert_built(
        &self,
        id: &ImageId,
        definition_hash: &str,
        definition: &Definition,
        built: &Built,
        expires_at: Option<f64>,
    ) -> Result<()> {
        let now = crate::clock::unique_now();
        sqlx::query(
            "INSERT INTO images (image_id, definition_hash, definition, status, built, created_at, \
             finished_at, expires_at) VALUES (?, ?, ?, 'built', ?, ?, ?, ?)",
        )
        .bind(id.as_str())
        .bind(definition_hash)
        .bind(to_json(definition))
        .bind(to_json(built))
        .bind(now)
        .bind(now)
        .bind(expires_at)
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("record an image"))
    }

    /// Deletes an image, and the names that mean it now or did; whether there was one.
    pub(crate) async fn delete(&self, id: &ImageId) -> Result<bool> {
        let delete = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            let deleted = sqlx::query(
                "UPDATE images SET deleted_at = ? WHERE image_id = ? AND deleted_at IS NULL",
            )
            .bind(crate::clock::now())
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
            let was_there = deleted.rows_affected() > 0;
            if was_there {
                sqlx::query("DELETE FROM image_names WHERE image_id = ?")
                    .bind(id.as_str())
                    .execute(&mut *transaction)
                    .await?;
                remember(&mut transaction, "image_delete", &()).await?;
            }
            transaction.commit().await?;
            Ok(was_there)
        };
        delete.await.map_err(Error::database("delete an image"))
    }

    /// Deletes the snapshots whose time is over.
    pub(crate) async fn delete_expired(&self) -> Result<()> {
        sqlx::query(
            "UPDATE images SET deleted_at = ?1 WHERE expires_at < ?1 AND deleted_at IS NULL",
        )
        .bind(crate::clock::now())
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("collect garbage"))
    }

    /// Forgets the deleted images that are not `kept`; answers how many.
    pub(crate) async fn forget_deleted(&self, kept: &BTreeSet<String>) -> Result<u64> {
        let failed = || Error::database("collect garbage");
        let deleted: Vec<String> =
            sqlx::query_scalar("SELECT image_id FROM images WHERE deleted_at IS NOT NULL")
                .fetch_all(&self.db)
                .await
                .map_err(failed())?;
        let mut forgotten = 0;
        for id in deleted.iter().filter(|id| !kept.contains(*id)) {
            // Unless its definition was built again meanwhile.
            sqlx::query("DELETE FROM images WHERE image_id = ? AND deleted_at IS NOT NULL")
                .bind(id)
                .execute(&self.db)
                .await
                .map_err(failed())?;
            forgotten += 1;
        }
        Ok(forgotten)
    }

    /// What the builds are made of that have no end yet.
    pub(crate) async fn building(&self) -> Result<Vec<Definition>> {
        let rows = sqlx::query("SELECT definition FROM images WHERE status = 'building'")
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("list images"))?;
        rows.iter().map(|row| from_json(&text(row, "definition")?)).collect()
    }

    /// The layers that built images consist of.
    pub(crate) async fn all_built(&self) -> Result<Vec<Built>> {
        let rows = sqlx::query("SELECT built FROM images WHERE status = 'built'")
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("list images"))?;
        rows.iter().map(|row| from_json(&text(row, "built")?)).collect()
    }
}

fn read(row: &sqlx::sqlite::SqliteRow) -> Result<ImageRecord> {
    let progress = match text(row, "status")?.as_str() {
        "built" => Progress::Built(from_json(&text(row, "built")?)?),
        "failed" => Progress::Failed(text(row, "exception")?),
        _ => Progress::Building,
    };
    Ok(ImageRecord {
        id: ImageId::parse(&text(row, "image_id")?)?,
        definition_hash: text(row, "definition_hash")?,
        definition: from_json(&text(row, "definition")?)?,
        progress,
    })
}

fn text(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<String> {
    row.try_get(column).map_err(Error::database("read an image"))
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data without maps of odd keys")
}

fn from_json<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|source| Error::Database { operation: "read an image", source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Hasher;

    #[test]
    fn the_stored_form() {
        let layer = LayerId::of(&Hasher::new("test"));
        insta::assert_json_snapshot!(Built {
            layers: vec![layer.clone()],
            tip: layer,
            config: ImageConfig::default(),
            substitutions: vec!["a base stands in for it".to_owned()],
        });
    }
}
