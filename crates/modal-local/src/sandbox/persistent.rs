//! Persistent sandboxes: a definition, and one sandbox after another that goes on from the file system
//! of the one before. Each of them is a sandbox like any other and leaves a snapshot at its end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use modal_proto::client::{PersistentSandboxCreateResponse, SandboxCreateV2Request};
use prost::Message as _;
use sqlx::SqlitePool;

use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::change;
use crate::ids::{ImageId, PersistentSandboxId, SandboxId};

/// A persistent sandbox, as it is written down.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct PersistentRecord {
    definition: Vec<u8>,
    image_id: String,
    sandbox_id: String,
    terminated_at: Option<f64>,
}

impl PersistentRecord {
    /// The sandbox that runs, or ran last.
    pub(crate) fn latest(&self) -> Result<SandboxId> {
        Ok(SandboxId::parse(&self.sandbox_id)?)
    }

    /// What the next sandbox begins with, unless the latest one has left something newer.
    pub(crate) fn image(&self) -> Result<ImageId> {
        Ok(ImageId::parse(&self.image_id)?)
    }

    /// What its client asked for.
    pub(crate) fn definition(&self) -> Result<SandboxCreateV2Request> {
        SandboxCreateV2Request::decode(self.definition.as_slice())
            .map_err(|error| Error::invalid(format!("the definition cannot be read: {error}")))
    }

    /// It never goes on again.
    pub(crate) fn is_terminated(&self) -> bool {
        self.terminated_at.is_some()
    }
}

/// The persistent sandboxes of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct PersistentSandboxes {
    db: SqlitePool,
    resuming: Arc<Mutex<HashSet<PersistentSandboxId>>>,
}

impl PersistentSandboxes {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db, resuming: Arc::default() }
    }

    /// Writes a new one down, with what its client is answered.
    pub(crate) async fn insert(
        &self,
        id: &PersistentSandboxId,
        definition: &SandboxCreateV2Request,
        image: &ImageId,
        first: &SandboxId,
    ) -> Result<PersistentSandboxCreateResponse> {
        let answer = PersistentSandboxCreateResponse {
            persistent_sandbox_id: id.to_string(),
            sandbox_id: first.to_string(),
        };
        let insert = sqlx::query(
            "INSERT INTO persistent_sandboxes
             (persistent_sandbox_id, definition, image_id, sandbox_id, created_at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(id.as_str())
        .bind(definition.encode_to_vec())
        .bind(image.as_str())
        .bind(first.as_str())
        .bind(clock::now());
        let made = change(&self.db, "persistent_sandbox_create", &answer, insert).await;
        made.map_err(Error::database("record a persistent sandbox"))?;
        Ok(answer)
    }

    pub(crate) async fn get(&self, id: &PersistentSandboxId) -> Result<PersistentRecord> {
        sqlx::query_as("SELECT * FROM persistent_sandboxes WHERE persistent_sandbox_id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a persistent sandbox"))?
            .ok_or_else(|| Error::not_found("persistent sandbox", id))
    }

    /// Records the sandbox that goes on, and what it began with.
    pub(crate) async fn set_latest(
        &self,
        id: &PersistentSandboxId,
        latest: &SandboxId,
        image: &ImageId,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE persistent_sandboxes SET sandbox_id = ?, image_id = ? WHERE persistent_sandbox_id = ?",
        )
        .bind(latest.as_str())
        .bind(image.as_str())
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("record that a persistent sandbox goes on"))
    }

    /// Records that it never goes on again; the first time stays.
    pub(crate) async fn set_terminated(&self, id: &PersistentSandboxId) -> Result<()> {
        sqlx::query(
            "UPDATE persistent_sandboxes SET terminated_at = COALESCE(terminated_at, ?)
             WHERE persistent_sandbox_id = ?",
        )
        .bind(clock::now())
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("record the end of a persistent sandbox"))
    }

    /// The right to begin its next sandbox; `None` while somebody else has it.
    pub(crate) fn begin_resuming(&self, id: &PersistentSandboxId) -> Option<Resuming> {
        let mut resuming = self.resuming.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = resuming.insert(id.clone());
        is_first.then(|| Resuming { id: id.clone(), all: Arc::clone(&self.resuming) })
    }
}

/// Nobody else begins the next sandbox of it as long as this lives.
pub(crate) struct Resuming {
    id: PersistentSandboxId,
    all: Arc<Mutex<HashSet<PersistentSandboxId>>>,
}

impl Drop for Resuming {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test]
    async fn one_is_resumed_by_one_client_at_a_time(db: SqlitePool) {
        let all = PersistentSandboxes::new(db);
        let (one, other) = (PersistentSandboxId::random(), PersistentSandboxId::random());
        let first = all.begin_resuming(&one);
        assert!(first.is_some() && all.begin_resuming(&one).is_none());
        assert!(all.begin_resuming(&other).is_some());
        drop(first);
        assert!(all.begin_resuming(&one).is_some());
    }

    #[sqlx::test]
    async fn the_latest_sandbox_and_its_image_are_kept(db: SqlitePool) {
        let all = PersistentSandboxes::new(db);
        let id = PersistentSandboxId::random();
        assert!(all.get(&id).await.unwrap_err().is_not_found());
        let definition =
            SandboxCreateV2Request { app_id: "ap-1".into(), ..SandboxCreateV2Request::default() };
        let (image, first) = (ImageId::random(), SandboxId::random_v2());
        all.insert(&id, &definition, &image, &first).await.unwrap();
        let (newer, second) = (ImageId::random(), SandboxId::random_v2());
        all.set_latest(&id, &second, &newer).await.unwrap();
        let record = all.get(&id).await.unwrap();
        assert_eq!((record.latest().unwrap(), record.image().unwrap()), (second, newer));
        assert_eq!(record.definition().unwrap(), definition);
        assert!(!record.is_terminated());
        all.set_terminated(&id).await.unwrap();
        assert!(all.get(&id).await.unwrap().is_terminated());
    }
}
