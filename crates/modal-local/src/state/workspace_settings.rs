//! What can be set on the workspace: the environment of requests that name none, and the image builder version of new
//! environments.

use std::sync::{Arc, PoisonError, RwLock};

use sqlx::SqlitePool;

use super::environments::FIRST;
use crate::error::{Error, Result};

const DEFAULT_ENVIRONMENT: &str = "default-environment";
const IMAGE_BUILDER_VERSION: &str = "image-builder-version";
/// The versions that the pinned SDK can build for (`modal.experimental.ImageBuilderVersion`).
const BUILDER_VERSIONS: [&str; 5] = ["2023.12", "2024.04", "2024.10", "2025.06", "PREVIEW"];

#[derive(Debug, Clone)]
struct Values {
    default_environment: String,
    image_builder_version: String,
}

/// The settings, in memory and in the records. Clones share them.
#[derive(Clone)]
pub(crate) struct WorkspaceSettings {
    db: SqlitePool,
    values: Arc<RwLock<Values>>,
}

impl WorkspaceSettings {
    /// Reads what was set; the rest is as the server was started.
    pub(crate) async fn open(db: SqlitePool, builder_version: String) -> Result<Self> {
        let mut values = Values {
            default_environment: FIRST.to_owned(),
            image_builder_version: builder_version,
        };
        let set: Vec<(String, String)> =
            sqlx::query_as("SELECT name, value FROM workspace_settings")
                .fetch_all(&db)
                .await
                .map_err(Error::database("read the workspace's settings"))?;
        set.into_iter().for_each(|(name, value)| values.put(&name, value));
        Ok(Self { db, values: Arc::new(RwLock::new(values)) })
    }

    /// The environment of requests that name none.
    pub(crate) fn default_environment(&self) -> String {
        self.read(|values| values.default_environment.clone())
    }

    /// The image builder version of new environments.
    pub(crate) fn image_builder_version(&self) -> String {
        self.read(|values| values.image_builder_version.clone())
    }

    /// `environment` must exist.
    pub(crate) async fn set_default_environment(&self, environment: &str) -> Result<()> {
        self.set(DEFAULT_ENVIRONMENT, environment).await
    }

    /// Fails for a version that no SDK knows.
    pub(crate) async fn set_image_builder_version(&self, version: &str) -> Result<()> {
        check_builder_version(version)?;
        self.set(IMAGE_BUILDER_VERSION, version).await
    }

    async fn set(&self, name: &str, value: &str) -> Result<()> {
        sqlx::query("INSERT INTO workspace_settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
            .bind(name)
            .bind(value)
            .execute(&self.db)
            .await
            .map_err(Error::database("change the workspace's settings"))?;
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        values.put(name, value.to_owned());
        Ok(())
    }

    fn read<T>(&self, read: impl FnOnce(&Values) -> T) -> T {
        read(&self.values.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Values {
    fn put(&mut self, name: &str, value: String) {
        match name {
            DEFAULT_ENVIRONMENT => self.default_environment = value,
            IMAGE_BUILDER_VERSION => self.image_builder_version = value,
            _ => {}
        }
    }
}

/// Refuses a version that no SDK knows.
pub(crate) fn check_builder_version(version: &str) -> Result<()> {
    if BUILDER_VERSIONS.contains(&version) {
        return Ok(());
    }
    let known = BUILDER_VERSIONS.join(", ");
    Err(Error::invalid(format!("invalid image builder version '{version}'; there are {known}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test]
    async fn what_was_set_is_there_after_a_restart(db: SqlitePool) {
        let settings = WorkspaceSettings::open(db.clone(), "2025.06".to_owned()).await.unwrap();
        assert_eq!(settings.default_environment(), "main");
        settings.set_default_environment("dev").await.unwrap();
        settings.set_image_builder_version("2024.10").await.unwrap();
        settings.set_image_builder_version("1999.01").await.unwrap_err();
        let again = WorkspaceSettings::open(db, "2025.06".to_owned()).await.unwrap();
        assert_eq!(
            (again.default_environment().as_str(), again.image_builder_version().as_str()),
            ("dev", "2024.10")
        );
    }
}
