//! Events on disk, in a database that survives the end of any process.

use std::path::Path;

use bytes::Bytes;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite, Transaction};

use super::count::{Counts, Fate};

/// Ids that are remembered after their events have left.
const REMEMBERED: i64 = 200_000;

/// Result of the database.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// Why events can't be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory can't be made.
    #[error("can't make the directory `{}`", .0.display())]
    Directory(std::path::PathBuf, #[source] std::io::Error),
    /// The database can't be used.
    #[error("the database of events can't be used")]
    Database(#[from] sqlx::Error),
    /// The database is another version's.
    #[error("the database of events can't be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// An event as its sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) body: Bytes,
}

/// An event on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) seq: i64,
    pub(crate) event: Event,
    /// How often Langfuse would not take it, for a reason that may pass.
    pub(crate) refusals: i64,
}

/// The events of a spool.
pub(crate) struct Store {
    pool: SqlitePool,
    max_bytes: u64,
}

impl Store {
    pub(crate) async fn open(directory: &Path, max_bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory(directory.to_owned(), source))?;
        let options = SqliteConnectOptions::new()
            .filename(directory.join("events.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was answered for must outlive the machine's power, too.
            .synchronous(SqliteSynchronous::Full);
        // One writer at a time is all that the database can do.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        sqlx::migrate!().run(&pool).await?;
        Ok(Self { pool, max_bytes })
    }

    /// Takes events, all at once. Answers what became of each; when this returns, it is on disk.
    pub(crate) async fn take(&self, events: &[Event]) -> Result<Vec<Fate>> {
        let mut transaction = self.pool.begin().await?;
        let mut room = self.max_bytes.saturating_sub(bytes(&mut transaction).await?);
        let mut fates = Vec::with_capacity(events.len());
        for event in events {
            let fate = take_one(&mut transaction, event, &mut room).await?;
            count(&mut transaction, fate, 1).await?;
            fates.push(fate);
        }
        transaction.commit().await?;
        Ok(fates)
    }

    /// The oldest events, at most so many with at most so many bytes together, but one at least.
    pub(crate) async fn oldest(&self, number: u32, max_bytes: usize) -> Result<Vec<Waiting>> {
        let rows = sqlx::query("SELECT seq, id, body, refusals FROM events ORDER BY seq LIMIT ?")
            .bind(number)
            .fetch_all(&self.pool)
            .await?;
        let mut oldest: Vec<Waiting> = Vec::new();
        let mut size = 0;
        for row in rows {
            let body: Vec<u8> = row.try_get("body")?;
            size += body.len();
            if size > max_bytes && !oldest.is_empty() {
                break;
            }
            let event = Event { id: row.try_get("id")?, body: body.into() };
            oldest.push(Waiting {
                seq: row.try_get("seq")?,
                event,
                refusals: row.try_get("refusals")?,
            });
        }
        Ok(oldest)
    }

    /// Events that have left, and what became of each.
    pub(crate) async fn settle(&self, settled: &[(i64, Fate)]) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        for (seq, fate) in settled {
            let gone = sqlx::query("DELETE FROM events WHERE seq = ?")
                .bind(seq)
                .execute(&mut *transaction)
                .await?;
            count(&mut transaction, *fate, gone.rows_affected()).await?;
        }
        sqlx::query(
            "DELETE FROM seen WHERE seq <= (SELECT max(seq) FROM seen) - ?
             AND id NOT IN (SELECT id FROM events)",
        )
        .bind(REMEMBERED)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Events that stay for another try.
    pub(crate) async fn refused_for_now(&self, seqs: &[i64]) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        for seq in seqs {
            sqlx::query("UPDATE events SET refusals = refusals + 1 WHERE seq = ?")
                .bind(seq)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn waiting(&self) -> Result<u64> {
        Ok(self.counts().await?.waiting)
    }

    pub(crate) async fn counts(&self) -> Result<Counts> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query_as::<_, (String, i64)>("SELECT name, value FROM counts")
            .fetch_all(&mut *transaction)
            .await?;
        let of = |fate: Fate| {
            let found = rows.iter().find(|(name, _)| name == fate.name());
            found.map_or(0, |(_, value)| value.unsigned_abs())
        };
        let waiting: i64 =
            sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut *transaction).await?;
        Ok(Counts {
            taken: of(Fate::Taken),
            waiting: waiting.unsigned_abs(),
            delivered: of(Fate::Delivered),
            refused: of(Fate::Refused),
            duplicate: of(Fate::Duplicate),
            dropped: of(Fate::Dropped),
            bytes: bytes(&mut transaction).await?,
        })
    }
}

async fn take_one(
    transaction: &mut Transaction<'_, Sqlite>,
    event: &Event,
    room: &mut u64,
) -> Result<Fate> {
    let known: Option<i64> = sqlx::query_scalar("SELECT seq FROM seen WHERE id = ?")
        .bind(&event.id)
        .fetch_optional(&mut **transaction)
        .await?;
    if known.is_some() {
        return Ok(Fate::Duplicate);
    }
    let Some(left) = room.checked_sub(event.body.len() as u64) else {
        // Not remembered: its sender may come again when there is room.
        return Ok(Fate::Dropped);
    };
    *room = left;
    for query in
        ["INSERT INTO seen (id) VALUES (?1)", "INSERT INTO events (id, body) VALUES (?1, ?2)"]
    {
        let query = sqlx::query(query).bind(&event.id).bind(event.body.as_ref());
        query.execute(&mut **transaction).await?;
    }
    Ok(Fate::Taken)
}

async fn bytes(transaction: &mut Transaction<'_, Sqlite>) -> Result<u64> {
    let bytes: i64 = sqlx::query_scalar("SELECT coalesce(sum(length(body)), 0) FROM events")
        .fetch_one(&mut **transaction)
        .await?;
    Ok(bytes.unsigned_abs())
}

async fn count(transaction: &mut Transaction<'_, Sqlite>, fate: Fate, number: u64) -> Result<()> {
    let text = "INSERT INTO counts (name, value) VALUES (?, ?)
                ON CONFLICT (name) DO UPDATE SET value = value + excluded.value";
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query(text).bind(fate.name()).bind(number).execute(&mut **transaction).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str) -> Event {
        Event { id: id.to_owned(), body: Bytes::from(vec![b'x'; 100]) }
    }

    async fn ids(store: &Store) -> Vec<String> {
        store.oldest(100, 10_000).await.unwrap().into_iter().map(|it| it.event.id).collect()
    }

    #[tokio::test]
    async fn events_are_taken_once_and_leave_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), 1_000).await.unwrap();
        let fates = store.take(&[event("b"), event("a"), event("b")]).await.unwrap();
        assert_eq!(fates, [Fate::Taken, Fate::Taken, Fate::Duplicate]);
        assert_eq!(ids(&store).await, ["b", "a"]);
        drop(store);

        let store = Store::open(directory.path(), 1_000).await.unwrap();
        let waiting = store.oldest(100, 150).await.unwrap();
        assert_eq!(waiting.len(), 1, "150 bytes hold one");
        store.settle(&[(waiting[0].seq, Fate::Delivered)]).await.unwrap();
        assert_eq!(store.take(&[event("b")]).await.unwrap(), [Fate::Duplicate]);
        assert_eq!(ids(&store).await, ["a"]);
        let counts = store.counts().await.unwrap();
        insta::assert_snapshot!(serde_json::to_string(&counts).unwrap(), @r#"{"taken":2,"waiting":1,"delivered":1,"refused":0,"duplicate":2,"dropped":0,"bytes":100}"#);
    }

    #[tokio::test]
    async fn what_has_no_room_is_counted_and_welcome_later() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), 250).await.unwrap();
        let fates = store.take(&[event("a"), event("b"), event("c")]).await.unwrap();
        assert_eq!(fates, [Fate::Taken, Fate::Taken, Fate::Dropped]);
        let first = store.oldest(1, 1).await.unwrap().remove(0);
        store.refused_for_now(&[first.seq]).await.unwrap();
        assert_eq!(store.oldest(1, 1).await.unwrap()[0].refusals, 1);
        store.settle(&[(first.seq, Fate::Refused)]).await.unwrap();
        assert_eq!(store.take(&[event("c")]).await.unwrap(), [Fate::Taken]);
        assert_eq!(ids(&store).await, ["b", "c"]);
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.taken, counts.dropped, counts.refused), (3, 1, 1));
    }
}
