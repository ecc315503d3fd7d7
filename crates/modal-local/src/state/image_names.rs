//! Names of images: `name:tag` in an environment, and what each has meant over time.

use modal_proto::client::ImagePublishResponse;
use sqlx::SqlitePool;

use super::environments::Environment;
use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::{change, remember};
use crate::ids::ImageId;

/// Longest name, and longest tag.
const MAX_PART: usize = 128;

/// One publication of an image under a name.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct Revision {
    pub(crate) revision: i64,
    pub(crate) tag: String,
    pub(crate) image_id: String,
    pub(crate) created_at: f64,
    /// When the name was first used.
    pub(crate) first_at: f64,
}

/// `[environment/]name[:tag]`, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageName {
    pub(crate) environment: Option<String>,
    /// `name:tag`
    pub(crate) tag: String,
}

impl ImageName {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (environment, name) = match text.rsplit_once('/') {
            Some((environment, name)) => (Some(environment), name),
            None => (None, text),
        };
        if environment.is_some_and(|it| it.contains('/')) {
            return Err(Error::invalid("images of other workspaces cannot be had here"));
        }
        let (name, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let is_part = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !part.is_empty() && part.len() <= MAX_PART && part.bytes().all(allowed)
        };
        if !is_part(name) || !is_part(tag) || name.starts_with(ImageId::PREFIX) {
            let shown: String = text.chars().take(MAX_PART).collect();
            return Err(Error::invalid(format!("{shown:?} is no image name like `name:tag`")));
        }
        Ok(Self { environment: environment.map(str::to_owned), tag: format!("{name}:{tag}") })
    }
}

/// The names of images of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct ImageNames {
    db: SqlitePool,
}

impl ImageNames {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Lets the name mean this image from now on; answers the client with the number of the publication.
    pub(crate) async fn publish(
        &self,
        environment: &Environment,
        tag: &str,
        image: &ImageId,
    ) -> Result<ImagePublishResponse> {
        let publish = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            let revision: i64 = sqlx::query_scalar(
                "INSERT INTO image_names (environment_id, tag, image_id, created_at)
                 VALUES (?, ?, ?, ?) RETURNING revision",
            )
            .bind(&environment.id)
            .bind(tag)
            .bind(image.as_str())
            .bind(clock::unique_now())
            .fetch_one(&mut *transaction)
            .await?;
            let (image_id, revision_id) = (image.to_string(), revision.to_string());
            let answer = ImagePublishResponse { image_id, revision_id };
            remember(&mut transaction, "image_publish", &answer).await?;
            transaction.commit().await?;
            Ok(answer)
        };
        publish.await.map_err(Error::database("publish an image"))
    }

    /// What the name means now.
    pub(crate) async fn find(&self, environment: &Environment, tag: &str) -> Result<String> {
        let newest: Option<String> = sqlx::query_scalar(
            "SELECT image_id FROM image_names WHERE environment_id = ? AND tag = ?
             ORDER BY revision DESC LIMIT 1",
        )
        .bind(&environment.id)
        .bind(tag)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up an image's name"))?;
        newest.ok_or_else(|| Error::not_found_in("image", tag, ("environment", &environment.name)))
    }

    /// A page of names and what they mean now, in alphabetical order after `after`.
    pub(crate) async fn list(
        &self,
        environment: &Environment,
        prefix: &str,
        image: Option<&str>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Revision>> {
        sqlx::query_as(
            "SELECT name.revision, name.tag, name.image_id, name.created_at, first_at
             FROM image_names AS name
             JOIN (SELECT max(revision) AS revision, min(created_at) AS first_at FROM image_names
                   WHERE environment_id = ?1 GROUP BY tag) AS newest USING (revision)
             WHERE tag > ?2 AND substr(tag, 1, length(?3)) = ?3 AND (?4 IS NULL OR image_id = ?4)
             ORDER BY tag LIMIT ?5",
        )
        .bind(&environment.id)
        .bind(after)
        .bind(prefix)
        .bind(image)
        .bind(limit)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list images' names"))
    }

    /// A page of what a name has meant, newest first, before publication `before`.
    pub(crate) async fn history(
        &self,
        environment: &Environment,
        tag: &str,
        before: i64,
        limit: i64,
    ) -> Result<Vec<Revision>> {
        sqlx::query_as(
            "SELECT revision, tag, image_id, created_at, created_at AS first_at FROM image_names
             WHERE environment_id = ? AND tag = ? AND revision < ? ORDER BY revision DESC LIMIT ?",
        )
        .bind(&environment.id)
        .bind(tag)
        .bind(before)
        .bind(limit)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("read the history of an image's name"))
    }

    /// Forgets a name and its history.
    pub(crate) async fn delete(&self, environment: &Environment, tag: &str) -> Result<()> {
        self.find(environment, tag).await?;
        let delete = sqlx::query("DELETE FROM image_names WHERE environment_id = ? AND tag = ?")
            .bind(&environment.id)
            .bind(tag);
        let deleted = change(&self.db, "image_name_delete", &(), delete).await;
        deleted.map(drop).map_err(Error::database("delete an image's name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let name = |text| ImageName::parse(text).unwrap();
        assert_eq!(name("a").tag, "a:latest");
        assert_eq!(
            name("dev/a:v1"),
            ImageName { environment: Some("dev".to_owned()), tag: "a:v1".to_owned() }
        );
        for bad in ["", ":v", "a:", "a b", "a:b:c", "im-x", "w/e/a", "a:\0", "../a b"] {
            ImageName::parse(bad).unwrap_err();
        }
    }
}
