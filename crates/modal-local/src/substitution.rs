//! Substitutions: recipes to use instead of images that cannot be had on this machine.
//!
//! A client registers them; this server knows no image by heart. Every use is told in the build log.

use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

use crate::clock;
use crate::error::{Error, Result};

/// Longest name and recipe; nobody writes longer ones by hand.
const MAX_LENGTH: usize = 1024 * 1024;

/// What to build instead of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Substitution {
    /// The image that is asked for, as a `FROM` line writes it, such as `vllm/vllm-openai:v0.11.0`.
    pub matches: String,
    /// The Dockerfile commands to use in its place, from their own `FROM` on.
    pub dockerfile_commands: Vec<String>,
    /// Why, as the build log says it.
    pub reason: String,
}

/// The substitutions of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Substitutions {
    db: SqlitePool,
}

impl Substitutions {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Replaces the whole table.
    pub(crate) async fn replace(&self, substitutions: &[Substitution]) -> Result<()> {
        let failed = || Error::database("store substitutions");
        let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        sqlx::query("DELETE FROM substitutions")
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        for substitution in substitutions {
            substitution.check()?;
            let commands = serde_json::to_string(&substitution.dockerfile_commands)
                .map_err(|error| Error::invalid(error.to_string()))?;
            sqlx::query("INSERT OR REPLACE INTO substitutions VALUES (?, ?, ?, ?)")
                .bind(&substitution.matches)
                .bind(commands)
                .bind(&substitution.reason)
                .bind(clock::now())
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// What to build instead of `image`, if something was registered for it.
    pub(crate) async fn find(&self, image: &str) -> Result<Option<Substitution>> {
        let found = self.list().await?;
        Ok(found.into_iter().find(|substitution| substitution.matches == image))
    }

    /// All of them, by name.
    pub(crate) async fn list(&self) -> Result<Vec<Substitution>> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT matches, replacement, reason FROM substitutions ORDER BY matches",
        )
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("read substitutions"))?;
        let substitution = |(matches, commands, reason): (String, String, String)| {
            let dockerfile_commands = serde_json::from_str(&commands).unwrap_or_default();
            Substitution { matches, dockerfile_commands, reason }
        };
        Ok(rows.into_iter().map(substitution).collect())
    }
}

impl Substitution {
    fn check(&self) -> Result<()> {
        let length: usize = self.dockerfile_commands.iter().map(String::len).sum();
        if self.matches.is_empty() || self.matches.len() > MAX_LENGTH || length > MAX_LENGTH {
            return Err(Error::invalid("a substitution needs an image's name and a short recipe"));
        }
        let starts = self.dockerfile_commands.first().map(|line| line.trim_start());
        if !starts.is_some_and(|line| line.to_ascii_uppercase().starts_with("FROM ")) {
            return Err(Error::invalid(format!(
                "the substitution for `{}` must begin with a FROM command",
                self.matches
            )));
        }
        Ok(())
    }
}
