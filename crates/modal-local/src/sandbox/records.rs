//! Sandboxes in the database: what is known of them also after the server was killed.

use std::collections::BTreeMap;

use modal_proto::client::generic_result::GenericStatus;
use prost::Message;
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use super::ending::Ending;
use super::tags::Tags;
use crate::clock;
use crate::error::{Error, Result};
use crate::idempotency::remember;
use crate::ids::{AppId, SandboxId, TaskId};

/// Sandboxes on one page of a list.
const PAGE: i64 = 100;

/// A sandbox, live or ended.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct SandboxRecord {
    pub(crate) sandbox_id: String,
    pub(crate) task_id: String,
    pub(crate) app_id: String,
    pub(crate) environment_id: String,
    pub(crate) image_id: String,
    pub(crate) name: Option<String>,
    pub(crate) timeout_secs: i64,
    pub(crate) idle_timeout_secs: Option<i64>,
    pub(crate) created_at: f64,
    pub(crate) started_at: Option<f64>,
    pub(crate) ready_at: Option<f64>,
    pub(crate) ended_at: Option<f64>,
    status: Option<i32>,
    exit_code: Option<i32>,
    reason: Option<String>,
}

impl SandboxRecord {
    /// A sandbox that is about to be made.
    pub(crate) fn new(sandbox: &SandboxId, task: &TaskId) -> Self {
        Self {
            sandbox_id: sandbox.to_string(),
            task_id: task.to_string(),
            app_id: String::new(),
            environment_id: String::new(),
            image_id: String::new(),
            name: None,
            timeout_secs: 0,
            idle_timeout_secs: None,
            created_at: clock::unique_now(),
            started_at: None,
            ready_at: None,
            ended_at: None,
            status: None,
            exit_code: None,
            reason: None,
        }
    }

    /// How it ended, if it did.
    pub(crate) fn ending(&self) -> Option<Ending> {
        let status =
            GenericStatus::try_from(self.status?).unwrap_or(GenericStatus::InternalFailure);
        Some(Ending {
            status,
            exit_code: self.exit_code.unwrap_or_default(),
            reason: self.reason.clone().unwrap_or_default(),
        })
    }
}

/// Which sandboxes a list shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) app_id: Option<String>,
    pub(crate) environment_id: Option<String>,
    /// All must match.
    pub(crate) tags: Tags,
    /// Only those created before; 0 means no bound.
    pub(crate) created_before: f64,
    pub(crate) include_finished: bool,
}

/// The table of sandboxes. Clones share it.
#[derive(Clone)]
pub(crate) struct Records {
    db: SqlitePool,
}

impl Records {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Records a sandbox, and what a client that asks again for it is answered.
    pub(crate) async fn insert(
        &self,
        record: &SandboxRecord,
        tags: &Tags,
        repeated: (&'static str, &impl Message),
    ) -> Result<()> {
        let insert = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query(
                "INSERT INTO sandboxes (sandbox_id, task_id, app_id, environment_id, image_id, name,
                 timeout_secs, idle_timeout_secs, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(&record.sandbox_id)
            .bind(&record.task_id)
            .bind(&record.app_id)
            .bind(&record.environment_id)
            .bind(&record.image_id)
            .bind(&record.name)
            .bind(record.timeout_secs)
            .bind(record.idle_timeout_secs)
            .bind(record.created_at)
            .execute(&mut *transaction)
            .await?;
            insert_tags(&mut transaction, &record.sandbox_id, tags).await?;
            remember(&mut transaction, repeated.0, repeated.1).await?;
            transaction.commit().await
        };
        insert.await.map_err(Error::database("record a sandbox"))
    }

    pub(crate) async fn set_started(&self, id: &SandboxId) -> Result<()> {
        self.set_time("UPDATE sandboxes SET started_at = ? WHERE sandbox_id = ?", id).await
    }

    pub(crate) async fn set_ready(&self, id: &SandboxId) -> Result<()> {
        self.set_time("UPDATE sandboxes SET ready_at = ? WHERE sandbox_id = ?", id).await
    }

    pub(crate) async fn set_name(&self, id: &SandboxId, name: &str) -> Result<()> {
        sqlx::query("UPDATE sandboxes SET name = ? WHERE sandbox_id = ?")
            .bind(name)
            .bind(id.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("name a sandbox"))
    }

    /// Records the end; the first one stays.
    pub(crate) async fn set_ended(&self, id: &SandboxId, ending: &Ending) -> Result<()> {
        sqlx::query(
            "UPDATE sandboxes SET ended_at = ?, status = ?, exit_code = ?, reason = ?
             WHERE sandbox_id = ? AND ended_at IS NULL",
        )
        .bind(clock::now())
        .bind(i32::from(ending.status))
        .bind(ending.exit_code)
        .bind(&ending.reason)
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("record the end of a sandbox"))
    }

    /// Gives every sandbox without an end this one: the server that ran them is gone, and so are they.
    pub(crate) async fn end_all(&self, ending: &Ending) -> Result<u64> {
        sqlx::query(
            "UPDATE sandboxes SET ended_at = ?, status = ?, exit_code = ?, reason = ?
             WHERE ended_at IS NULL",
        )
        .bind(clock::now())
        .bind(i32::from(ending.status))
        .bind(ending.exit_code)
        .bind(&ending.reason)
        .execute(&self.db)
        .await
        .map(|done| done.rows_affected())
        .map_err(Error::database("record the ends of sandboxes"))
    }

    pub(crate) async fn get(&self, id: &SandboxId) -> Result<SandboxRecord> {
        self.find("SELECT * FROM sandboxes WHERE sandbox_id = ?", id.as_str())
            .await?
            .ok_or_else(|| Error::not_found("sandbox", id))
    }

    pub(crate) async fn get_by_task(&self, id: &TaskId) -> Result<SandboxRecord> {
        self.find("SELECT * FROM sandboxes WHERE task_id = ?", id.as_str())
            .await?
            .ok_or_else(|| Error::not_found("task", id))
    }

    /// The newest sandbox of this name in an app.
    pub(crate) async fn find_by_name(
        &self,
        app_id: &str,
        name: &str,
        include_finished: bool,
    ) -> Result<Option<SandboxRecord>> {
        sqlx::query_as(
            "SELECT * FROM sandboxes WHERE app_id = ? AND name = ? AND (? OR ended_at IS NULL)
             ORDER BY created_at DESC LIMIT 1",
        )
        .bind(app_id)
        .bind(name)
        .bind(include_finished)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up a sandbox"))
    }

    /// How many of an app's sandboxes began in a stretch of time.
    pub(crate) async fn count_of(&self, app: &AppId, (since, until): (f64, f64)) -> Result<u64> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sandboxes WHERE app_id = ? AND created_at >= ? AND created_at < ?",
        )
        .bind(app.as_str())
        .bind(since)
        .bind(until)
        .fetch_one(&self.db)
        .await
        .map_err(Error::database("count sandboxes"))?;
        Ok(count.unsigned_abs())
    }

    /// One page, newest first.
    pub(crate) async fn list(&self, filter: &Filter) -> Result<Vec<SandboxRecord>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM sandboxes WHERE TRUE");
        if !filter.include_finished {
            query.push(" AND ended_at IS NULL");
        }
        if filter.created_before > 0.0 {
            query.push(" AND created_at < ").push_bind(filter.created_before);
        }
        if let Some(app) = &filter.app_id {
            query.push(" AND app_id = ").push_bind(app);
        }
        if let Some(environment) = &filter.environment_id {
            query.push(" AND environment_id = ").push_bind(environment);
        }
        for (name, value) in filter.tags.iter() {
            query
                .push(" AND EXISTS (SELECT 1 FROM sandbox_tags AS tag WHERE tag.sandbox_id = sandboxes.sandbox_id AND tag.name = ")
                .push_bind(name.to_owned())
                .push(" AND tag.value = ")
                .push_bind(value.to_owned())
                .push(")");
        }
        query.push(" ORDER BY created_at DESC LIMIT ").push_bind(PAGE);
        query.build_query_as().fetch_all(&self.db).await.map_err(Error::database("list sandboxes"))
    }

    pub(crate) async fn tags(&self, id: &str) -> Result<Tags> {
        let tags: Vec<(String, String)> =
            sqlx::query_as("SELECT name, value FROM sandbox_tags WHERE sandbox_id = ?")
                .bind(id)
                .fetch_all(&self.db)
                .await
                .map_err(Error::database("read the tags of a sandbox"))?;
        Tags::new(tags)
    }

    /// The tags of many sandboxes at once.
    pub(crate) async fn tags_of(
        &self,
        records: &[SandboxRecord],
    ) -> Result<BTreeMap<String, Tags>> {
        let mut tags = BTreeMap::new();
        for record in records {
            tags.insert(record.sandbox_id.clone(), self.tags(&record.sandbox_id).await?);
        }
        Ok(tags)
    }

    /// Replaces all tags.
    pub(crate) async fn set_tags(&self, id: &SandboxId, tags: &Tags) -> Result<()> {
        let replace = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("DELETE FROM sandbox_tags WHERE sandbox_id = ?")
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await?;
            insert_tags(&mut transaction, id.as_str(), tags).await?;
            transaction.commit().await
        };
        replace.await.map_err(Error::database("tag a sandbox"))
    }

    async fn find(&self, query: &'static str, id: &str) -> Result<Option<SandboxRecord>> {
        sqlx::query_as(query)
            .bind(id)
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a sandbox"))
    }

    async fn set_time(&self, query: &'static str, id: &SandboxId) -> Result<()> {
        sqlx::query(query)
            .bind(clock::now())
            .bind(id.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("change the record of a sandbox"))
    }
}

async fn insert_tags(
    connection: &mut sqlx::SqliteConnection,
    id: &str,
    tags: &Tags,
) -> Result<(), sqlx::Error> {
    for (name, value) in tags.iter() {
        sqlx::query("INSERT INTO sandbox_tags (sandbox_id, name, value) VALUES (?, ?, ?)")
            .bind(id)
            .bind(name)
            .bind(value)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[(&str, &str)]) -> Tags {
        Tags::new(tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).unwrap()
    }

    async fn insert(records: &Records, app: &str, labels: &[(&str, &str)]) -> SandboxId {
        let id = SandboxId::random_v2();
        let mut record = SandboxRecord::new(&id, &TaskId::random_v2());
        record.app_id = app.to_owned();
        record.name = Some("box".to_owned());
        records.insert(&record, &tags(labels), ("sandbox_create", &())).await.unwrap();
        id
    }

    #[sqlx::test]
    async fn lists_are_newest_first_and_filtered_by_all_tags(db: SqlitePool) {
        let records = Records::new(db);
        let one = insert(&records, "ap-1", &[("team", "a"), ("run", "1")]).await;
        let two = insert(&records, "ap-1", &[("team", "a")]).await;
        insert(&records, "ap-2", &[("team", "b")]).await;
        let list = async |filter: &Filter| -> Vec<String> {
            let page = records.list(filter).await.unwrap();
            page.into_iter().map(|record| record.sandbox_id).collect()
        };
        let mut filter = Filter { app_id: Some("ap-1".into()), ..Filter::default() };
        assert_eq!(list(&filter).await, [two.as_str(), one.as_str()]);
        filter.created_before = records.get(&two).await.unwrap().created_at;
        assert_eq!(list(&filter).await, [one.as_str()]);
        filter.created_before = records.get(&one).await.unwrap().created_at;
        assert!(list(&filter).await.is_empty());
        let filter = Filter { tags: tags(&[("team", "a"), ("run", "1")]), ..Filter::default() };
        assert_eq!(list(&filter).await, [one.as_str()]);
    }

    #[sqlx::test]
    async fn every_sandbox_has_one_end_and_the_first_stays(db: SqlitePool) {
        let records = Records::new(db);
        let (ended, running) =
            (insert(&records, "ap-1", &[]).await, insert(&records, "ap-1", &[]).await);
        records.set_ended(&ended, &Ending::timeout()).await.unwrap();
        assert_eq!(records.end_all(&Ending::internal("the server was killed")).await.unwrap(), 1);
        let ending = async |id| records.get(id).await.unwrap().ending().unwrap();
        assert_eq!(ending(&ended).await, Ending::timeout());
        assert_eq!(ending(&running).await, Ending::internal("the server was killed"));
        assert!(records.list(&Filter::default()).await.unwrap().is_empty());
        assert!(records.find_by_name("ap-1", "box", false).await.unwrap().is_none());
        let newest = records.find_by_name("ap-1", "box", true).await.unwrap().unwrap();
        assert_eq!(newest.sandbox_id, running.as_str());
    }

    #[sqlx::test]
    async fn tags_are_replaced_as_a_whole(db: SqlitePool) {
        let records = Records::new(db);
        let id = insert(&records, "ap-1", &[("a", "1"), ("b", "2")]).await;
        records.set_tags(&id, &tags(&[("c", "3")])).await.unwrap();
        assert_eq!(records.tags(id.as_str()).await.unwrap(), tags(&[("c", "3")]));
    }
}
