//! Events on disk, in a database that survives the end of any process, and on a volume that survives the container.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite, Transaction};

use super::count::{Counts, Fate};
use super::outbox::{Left, Outbox};

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
    /// The volume can't be used.
    #[error("the files of events on the volume can't be used")]
    Volume(#[from] io::Error),
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
    outbox: Option<Arc<Outbox>>,
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
        Ok(Self { pool, max_bytes, outbox: None })
    }

    /// Keeps events in that directory, too, and takes over what others left there. Answers what could not be read.
    pub(crate) async fn keep_in(&mut self, directory: &Path) -> Result<Vec<String>> {
        let writer: String =
            sqlx::query_scalar("SELECT name FROM writer").fetch_one(&self.pool).await?;
        let outbox = Arc::new(Outbox::open(directory, &writer)?);
        // The files are what outlives the machine's power; the database need not be as slow as they are.
        sqlx::query("PRAGMA synchronous = NORMAL").execute(&self.pool).await?;
        let (left, broken) = on_volume(&outbox, Outbox::left).await?;
        self.outbox = Some(outbox);
        for batch in left {
            self.take_over(batch).await?;
        }
        Ok(broken)
    }

    /// A batch of a container before this one: what is not known here comes in once more.
    async fn take_over(&self, left: Left) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        for event in &left.events {
            if !is_known(&mut transaction, &event.id).await? {
                insert(&mut transaction, event, Some(&left.name), left.is_done).await?;
            }
        }
        let held: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE file = ?")
            .bind(&left.name)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        if held == 0 {
            self.volume(move |outbox| outbox.remove(&left.name)).await?;
        }
        Ok(())
    }

    /// Takes events, all at once. Answers what became of each; when this returns, it is on disk.
    pub(crate) async fn take(&self, events: &[Event]) -> Result<Vec<Fate>> {
        let mut transaction = self.pool.begin().await?;
        let mut room = self.max_bytes.saturating_sub(bytes(&mut transaction).await?);
        let mut fates = Vec::with_capacity(events.len());
        let mut new = BTreeSet::new();
        for event in events {
            let fate = fate(&mut transaction, event, &mut room, &mut new).await?;
            count(&mut transaction, fate, 1).await?;
            fates.push(fate);
        }
        let taken = events.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Taken);
        let taken: Vec<Event> = taken.map(|(event, _)| event.clone()).collect();
        let file = self.put(&taken).await?;
        for event in &taken {
            insert(&mut transaction, event, file.as_deref(), false).await?;
        }
        transaction.commit().await?;
        if fates.iter().any(|fate| *fate != Fate::Taken) {
            self.keep_counts().await?;
        }
        Ok(fates)
    }

    /// Writes a batch to the volume, where there is one.
    async fn put(&self, events: &[Event]) -> Result<Option<String>> {
        if events.is_empty() {
            return Ok(None);
        }
        let events = events.to_vec();
        self.volume(move |outbox| outbox.put(&events.iter().collect::<Vec<_>>())).await
    }

    /// The oldest events, at most so many with at most so many bytes together, but one at least.
    pub(crate) async fn oldest(&self, number: u32, max_bytes: usize) -> Result<Vec<Waiting>> {
        let text = "SELECT seq, id, body, refusals FROM events WHERE delivered IS NULL
                    ORDER BY seq LIMIT ?";
        let rows = sqlx::query(text).bind(number).fetch_all(&self.pool).await?;
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

    /// What became of events. Those that are delivered stay until they are forgotten, refused ones leave.
    pub(crate) async fn settle(&self, settled: &[(i64, Fate)]) -> Result<()> {
        let now = Timestamp::now().as_second();
        let mut transaction = self.pool.begin().await?;
        let mut files = BTreeSet::new();
        for (seq, fate) in settled {
            let delivered = "UPDATE events SET delivered = ? WHERE seq = ? AND delivered IS NULL
                             RETURNING again, file";
            let asked = match fate {
                Fate::Delivered => sqlx::query_as(delivered).bind(now).bind(seq),
                _ => sqlx::query_as("DELETE FROM events WHERE seq = ? RETURNING again, file")
                    .bind(seq),
            };
            let row: Option<(i64, Option<String>)> =
                asked.fetch_optional(&mut *transaction).await?;
            let Some((again, file)) = row else { continue };
            count(&mut transaction, *fate, u64::from(again == 0)).await?;
            files.extend(file);
        }
        transaction.commit().await?;
        for file in files {
            self.settle_file(file).await?;
        }
        self.keep_counts().await
    }

    /// A file whose events are all delivered is marked, one that has none left is removed.
    async fn settle_file(&self, file: String) -> Result<()> {
        let text = "SELECT count(*), count(*) FILTER (WHERE delivered IS NULL) FROM events
                    WHERE file = ?";
        let (held, waiting): (i64, i64) =
            sqlx::query_as(text).bind(&file).fetch_one(&self.pool).await?;
        if held == 0 {
            self.volume(move |outbox| outbox.remove(&file)).await?;
        } else if waiting == 0 {
            self.volume(move |outbox| outbox.done(&file)).await?;
        }
        Ok(())
    }

    /// Lets go of what was delivered that long ago.
    pub(crate) async fn forget(&self, older: Duration) -> Result<()> {
        let age = i64::try_from(older.as_secs()).unwrap_or(i64::MAX);
        let until = Timestamp::now().as_second().saturating_sub(age);
        let files: Vec<Option<String>> =
            sqlx::query_scalar("DELETE FROM events WHERE delivered <= ? RETURNING file")
                .bind(until)
                .fetch_all(&self.pool)
                .await?;
        if files.is_empty() {
            return Ok(());
        }
        for file in files.into_iter().flatten().collect::<BTreeSet<_>>() {
            self.settle_file(file).await?;
        }
        sqlx::query(
            "DELETE FROM seen WHERE seq <= (SELECT max(seq) FROM seen) - ?
             AND id NOT IN (SELECT id FROM events)",
        )
        .bind(REMEMBERED)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Hands what was delivered and is still here on once more; answers how much that is.
    pub(crate) async fn deliver_again(&self) -> Result<u64> {
        let text = "UPDATE events SET delivered = NULL, again = 1 WHERE delivered IS NOT NULL";
        Ok(sqlx::query(text).execute(&self.pool).await?.rows_affected())
    }

    /// Whether anything that was delivered is still here.
    pub(crate) async fn holds_delivered(&self) -> Result<bool> {
        let text = "SELECT EXISTS (SELECT 1 FROM events WHERE delivered IS NOT NULL)";
        Ok(sqlx::query_scalar(text).fetch_one(&self.pool).await?)
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
        Ok(self.own_counts().await?.waiting)
    }

    /// By this container and by those before it.
    pub(crate) async fn counts(&self) -> Result<Counts> {
        let own = self.own_counts().await?;
        let others = self.volume(Outbox::counted_by_others).await?.unwrap_or_default();
        Ok(others.iter().fold(own, Counts::and))
    }

    async fn own_counts(&self) -> Result<Counts> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query_as::<_, (String, i64)>("SELECT name, value FROM counts")
            .fetch_all(&mut *transaction)
            .await?;
        let of = |fate: Fate| {
            let found = rows.iter().find(|(name, _)| name == fate.name());
            found.map_or(0, |(_, value)| value.unsigned_abs())
        };
        let text = "SELECT count(*) FROM events WHERE delivered IS NULL AND again = 0";
        let waiting: i64 = sqlx::query_scalar(text).fetch_one(&mut *transaction).await?;
        let waiting = waiting.unsigned_abs();
        let (delivered, refused) = (of(Fate::Delivered), of(Fate::Refused));
        Ok(Counts {
            taken: delivered + refused + waiting,
            waiting,
            delivered,
            refused,
            duplicate: of(Fate::Duplicate),
            dropped: of(Fate::Dropped),
            bytes: bytes(&mut transaction).await?,
        })
    }

    /// So that they are not forgotten with the container.
    async fn keep_counts(&self) -> Result<()> {
        if self.outbox.is_some() {
            let counts = self.own_counts().await?;
            self.volume(move |outbox| outbox.count(&counts)).await?;
        }
        Ok(())
    }

    /// Does something on the volume, where there is one; the disk may take its time.
    async fn volume<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        match &self.outbox {
            Some(outbox) => on_volume(outbox, work).await.map(Some),
            None => Ok(None),
        }
    }
}

async fn on_volume<T: Send + 'static>(
    outbox: &Arc<Outbox>,
    work: impl FnOnce(&Outbox) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let outbox = Arc::clone(outbox);
    let done = tokio::task::spawn_blocking(move || work(&outbox)).await;
    Ok(done.map_err(io::Error::other)??)
}

/// What will become of an event that has come; `new` are those of the same batch.
async fn fate(
    transaction: &mut Transaction<'_, Sqlite>,
    event: &Event,
    room: &mut u64,
    new: &mut BTreeSet<String>,
) -> Result<Fate> {
    if new.contains(&event.id) || is_known(transaction, &event.id).await? {
        return Ok(Fate::Duplicate);
    }
    let Some(left) = room.checked_sub(event.body.len() as u64) else {
        // Not remembered: its sender may come again when there is room.
        return Ok(Fate::Dropped);
    };
    *room = left;
    new.insert(event.id.clone());
    Ok(Fate::Taken)
}

async fn is_known(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<bool> {
    let known: Option<i64> = sqlx::query_scalar("SELECT seq FROM seen WHERE id = ?")
        .bind(id)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(known.is_some())
}

async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    event: &Event,
    file: Option<&str>,
    again: bool,
) -> Result<()> {
    sqlx::query("INSERT INTO seen (id) VALUES (?)")
        .bind(&event.id)
        .execute(&mut **transaction)
        .await?;
    sqlx::query("INSERT INTO events (id, body, file, again) VALUES (?, ?, ?, ?)")
        .bind(&event.id)
        .bind(event.body.as_ref())
        .bind(file)
        .bind(i64::from(again))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn bytes(transaction: &mut Transaction<'_, Sqlite>) -> Result<u64> {
    let text = "SELECT coalesce(sum(length(body)), 0) FROM events WHERE delivered IS NULL";
    let bytes: i64 = sqlx::query_scalar(text).fetch_one(&mut **transaction).await?;
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
