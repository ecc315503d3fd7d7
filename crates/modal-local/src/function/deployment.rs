//! Deployments: every publication of an app, so that one can see and go back to earlier ones.

use std::collections::BTreeMap;

use modal_proto::client::{CommitInfo, DeploymentType};
use prost::Message;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

use super::records::{decode, use_definition};
use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::remember;
use crate::ids::AppId;

/// What an app consists of, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// Names to ids.
    pub(crate) functions: BTreeMap<String, String>,
    pub(crate) classes: BTreeMap<String, String>,
    /// Which definition each function has: ids to ids.
    pub(crate) definitions: BTreeMap<String, String>,
}

/// One publication.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deployment {
    /// From 1.
    pub(crate) version: u32,
    pub(crate) layout: Layout,
    pub(crate) client_version: String,
    pub(crate) deployed_at: f64,
    pub(crate) tag: String,
    /// The version that this one went back to; 0 if none.
    pub(crate) rollback_version: u32,
    pub(crate) commit: Option<CommitInfo>,
    /// How it came about; a staged one is recorded and not in force.
    pub(crate) kind: DeploymentType,
}

#[derive(sqlx::FromRow)]
struct Row {
    version: i64,
    layout: String,
    client_version: String,
    deployed_at: f64,
    tag: String,
    rollback_version: i64,
    commit_info: Vec<u8>,
    kind: i32,
}

impl Row {
    fn read(self) -> Result<Deployment> {
        let layout = serde_json::from_str(&self.layout).map_err(|source| Error::Database {
            operation: "read a deployment",
            source: source.into(),
        })?;
        let commit =
            if self.commit_info.is_empty() { None } else { Some(decode(&self.commit_info)?) };
        Ok(Deployment {
            version: u32::try_from(self.version).unwrap_or(u32::MAX),
            layout,
            client_version: self.client_version,
            deployed_at: self.deployed_at,
            tag: self.tag,
            rollback_version: u32::try_from(self.rollback_version).unwrap_or(0),
            commit,
            kind: DeploymentType::try_from(self.kind).unwrap_or_default(),
        })
    }
}

/// The table of deployments. Clones share it.
#[derive(Clone)]
pub(crate) struct Deployments {
    db: SqlitePool,
}

impl Deployments {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Adds a version with the next number, whatever number `deployment` has, and uses its definitions from
    /// now on, unless it is staged. `repeated` is what a client is answered that asks for it again after the server was killed.
    pub(crate) async fn put_into_use(
        &self,
        app: &AppId,
        deployment: &Deployment,
        repeated: (&'static str, &impl Message),
    ) -> Result<()> {
        let layout = serde_json::to_string(&deployment.layout)
            .map_err(|error| Error::invalid(error.to_string()))?;
        let commit = deployment.commit.as_ref().map(CommitInfo::encode_to_vec);
        let put = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query(
                "INSERT INTO app_versions SELECT ?1, ifnull(max(version), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
                 FROM app_versions WHERE app_id = ?1",
            )
            .bind(app.as_str())
            .bind(layout)
            .bind(&deployment.client_version)
            .bind(deployment.deployed_at)
            .bind(&deployment.tag)
            .bind(deployment.rollback_version)
            .bind(commit.unwrap_or_default())
            .bind(i32::from(deployment.kind))
            .execute(&mut *transaction)
            .await?;
            let is_staged = deployment.kind == DeploymentType::Staged;
            let used = deployment.layout.definitions.iter().filter(|_| !is_staged);
            for (function, definition) in used {
                use_definition(&mut transaction, function, definition).await?;
            }
            remember(&mut transaction, repeated.0, repeated.1).await?;
            transaction.commit().await
        };
        put.await.map_err(Error::database("record a deployment"))
    }

    /// All of an app, newest first.
    pub(crate) async fn history(&self, app: &AppId) -> Result<Vec<Deployment>> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM app_versions WHERE app_id = ? ORDER BY version DESC")
                .bind(app.as_str())
                .fetch_all(&self.db)
                .await
                .map_err(Error::database("list deployments"))?;
        rows.into_iter().map(Row::read).collect()
    }

    /// The one in force, if the app was ever published.
    pub(crate) async fn current(&self, app: &AppId) -> Result<Option<Deployment>> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT * FROM app_versions WHERE app_id = ? AND kind <> ? ORDER BY version DESC LIMIT 1",
        )
        .bind(app.as_str())
        .bind(i32::from(DeploymentType::Staged))
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up a deployment"))?;
        row.map(Row::read).transpose()
    }

    /// One version; `NotFound` if there is none of that number.
    pub(crate) async fn version(&self, app: &AppId, version: u32) -> Result<Deployment> {
        let row: Option<Row> =
            sqlx::query_as("SELECT * FROM app_versions WHERE app_id = ? AND version = ?")
                .bind(app.as_str())
                .bind(version)
                .fetch_optional(&self.db)
                .await
                .map_err(Error::database("look up a deployment"))?;
        row.ok_or_else(|| Error::not_found("app version", format!("{app} v{version}")))?.read()
    }

    /// The version that a negative number names by its distance from the current one, as
    /// `modal app rollback` sends, or a positive one directly. Staged ones were never in force: they are not counted,
    /// and there is no way back to them.
    pub(crate) async fn resolve(&self, app: &AppId, version: i32) -> Result<Deployment> {
        if let Ok(number) = u32::try_from(version)
            && number > 0
        {
            let found = self.version(app, number).await?;
            if found.kind == DeploymentType::Staged {
                let text = format!("version v{number} of app `{app}` is staged: promote it");
                return Err(Error::Precondition(text));
            }
            return Ok(found);
        }
        let back = if version == 0 { 1 } else { version.unsigned_abs() };
        let was_in_force = |it: &Deployment| it.kind != DeploymentType::Staged;
        let mut earlier = self.history(app).await?.into_iter().filter(was_in_force);
        let wanted = earlier.nth(usize::try_from(back).unwrap_or(usize::MAX));
        wanted.ok_or_else(|| Error::not_found("app version", format!("{app} {version}")))
    }

    /// The staged version that can be put into use: it is newer than what is in force.
    pub(crate) async fn promotable(&self, app: &AppId, version: u32) -> Result<Deployment> {
        let current = self.current(app).await?.map_or(0, |it| it.version);
        let found = self.version(app, version).await.map_err(|error| match error {
            Error::NotFound { .. } => {
                Error::Missing(format!("Version v{version} not found in App history of '{app}'"))
            }
            other => other,
        })?;
        if version <= current {
            return Err(Error::invalid(format!(
                "version v{version} must be newer than the current App version v{current}"
            )));
        }
        Ok(found)
    }

    /// The tags of an app.
    pub(crate) async fn tags(&self, app: &AppId) -> Result<BTreeMap<String, String>> {
        let tags: Vec<(String, String)> =
            sqlx::query_as("SELECT name, value FROM app_tags WHERE app_id = ?")
                .bind(app.as_str())
                .fetch_all(&self.db)
                .await
                .map_err(Error::database("read the tags of an app"))?;
        Ok(tags.into_iter().collect())
    }

    /// Replaces all tags of an app.
    pub(crate) async fn set_tags(
        &self,
        app: &AppId,
        tags: &BTreeMap<String, String>,
    ) -> Result<()> {
        check_tags(tags)?;
        let replace = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("DELETE FROM app_tags WHERE app_id = ?")
                .bind(app.as_str())
                .execute(&mut *transaction)
                .await?;
            for (name, value) in tags {
                sqlx::query("INSERT INTO app_tags VALUES (?, ?, ?)")
                    .bind(app.as_str())
                    .bind(name)
                    .bind(value)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        };
        replace.await.map_err(Error::database("tag an app"))
    }
}

/// A deployment that is about to be recorded.
pub(crate) fn new_deployment(layout: Layout) -> Deployment {
    Deployment {
        version: 0,
        layout,
        client_version: String::new(),
        deployed_at: clock::unique_now(),
        tag: String::new(),
        rollback_version: 0,
        commit: None,
        kind: DeploymentType::Standard,
    }
}

/// 1 to 63 letters, digits, `.`, `_` and `-` on both sides.
fn check_tags(tags: &BTreeMap<String, String>) -> Result<()> {
    let allowed = |text: &str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match tags.iter().find(|(name, value)| !allowed(name) || !allowed(value)) {
        Some((name, value)) => Err(Error::invalid(format!(
            "app tag `{name:.64}`=`{value:.64}`: use 1 to 63 letters, digits, `.`, `_` and `-`"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(tag: &str) -> Deployment {
        Deployment { tag: tag.to_owned(), ..new_deployment(Layout::default()) }
    }

    #[sqlx::test]
    async fn versions_count_up_and_are_found_by_number_or_distance(db: SqlitePool) {
        let (deployments, app) = (Deployments::new(db), AppId::random());
        for tag in ["one", "two", "three"] {
            deployments.put_into_use(&app, &deployment(tag), ("rpc", &())).await.unwrap();
        }
        let tag = async |version| deployments.resolve(&app, version).await.unwrap().tag;
        assert_eq!(tag(1).await, "one");
        assert_eq!(tag(-1).await, "two");
        assert_eq!(tag(0).await, "two", "the one before");
        assert!(deployments.resolve(&app, -3).await.unwrap_err().is_not_found());
        assert!(deployments.resolve(&app, 9).await.unwrap_err().is_not_found());
        assert_eq!(deployments.history(&app).await.unwrap()[0].version, 3);
    }

    #[sqlx::test]
    async fn a_staged_version_is_in_force_once_it_is_promoted(db: SqlitePool) {
        let (deployments, app) = (Deployments::new(db), AppId::random());
        let put = async |deployment| {
            deployments.put_into_use(&app, &deployment, ("rpc", &())).await.unwrap();
        };
        put(deployment("one")).await;
        put(deployment("two")).await;
        put(Deployment { kind: DeploymentType::Staged, ..deployment("staged") }).await;
        assert_eq!(deployments.current(&app).await.unwrap().unwrap().version, 2);
        assert_eq!(deployments.resolve(&app, -1).await.unwrap().tag, "one");
        assert!(deployments.resolve(&app, 3).await.unwrap_err().to_string().contains("staged"));
        let staged = deployments.promotable(&app, 3).await.unwrap();
        put(Deployment { kind: DeploymentType::Promotion, rollback_version: 3, ..staged }).await;
        let current = deployments.current(&app).await.unwrap().unwrap();
        assert_eq!((current.version, current.tag.as_str()), (4, "staged"));
        assert_eq!(deployments.resolve(&app, -1).await.unwrap().tag, "two");
        let older = deployments.promotable(&app, 2).await.unwrap_err().to_string();
        assert!(older.contains("must be newer than the current App version v4"), "{older}");
        let none = deployments.promotable(&app, 9).await.unwrap_err().to_string();
        assert!(none.contains("not found in App history"), "{none}");
    }

    #[sqlx::test]
    async fn tags_are_replaced_and_checked(db: SqlitePool) {
        let (deployments, app) = (Deployments::new(db), AppId::random());
        let tags = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        deployments.set_tags(&app, &tags(&[("a", "1"), ("b", "2")])).await.unwrap();
        deployments.set_tags(&app, &tags(&[("c", "3")])).await.unwrap();
        assert_eq!(deployments.tags(&app).await.unwrap(), tags(&[("c", "3")]));
        assert!(deployments.set_tags(&app, &tags(&[("a b", "1")])).await.is_err());
    }

    #[test]
    fn the_stored_form() {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let layout = Layout {
            functions: one("f", "fu-1"),
            classes: one("C", "cs-1"),
            definitions: one("fu-1", "de-1"),
        };
        insta::assert_json_snapshot!(layout, @r#"
        {
          "functions": {
            "f": "fu-1"
          },
          "classes": {
            "C": "cs-1"
          },
          "definitions": {
            "fu-1": "de-1"
          }
        }
        "#);
    }
}
