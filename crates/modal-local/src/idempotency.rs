//! A repeated attempt of a mutating call gets the answer of the first, and does nothing again.
//!
//! A client that lost its connection sends the call again with the same key. The first attempt may
//! be finished or still running; in both cases its answer is the answer. Work runs in a task of its
//! own, so that a lost connection does not stop it half-way.
//!
//! The server may be killed between what a call does and its answer. Calls that would then be done
//! twice write their answer down with what they do, in the same transaction ([`remember`]); the next
//! server reads these answers when it starts, so that no call has to look for one. Work on files has
//! no transaction: such a call writes down before it begins what it has found ([`begin`]), and a
//! repeated one goes on from there ([`begun`]) instead of taking its own files for somebody else's.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use prost::Message;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection, SqlitePool};
use tokio::time::Instant;
use tonic::Status;

use crate::caller::Caller;
use crate::clock;
use crate::error::{Error, Result as CrateResult};
use crate::failpoint::{Point, reach};

/// Clients make four attempts within seconds; throttled ones and long uploads take minutes.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// Answers kept at most; the oldest go first.
const CAPACITY: usize = 10_000;

type Answer = Shared<BoxFuture<'static, Result<Vec<u8>, Status>>>;
type Key = (Cow<'static, str>, String);

/// Answers that are written down before old ones are removed again.
const FORGET_EVERY: u32 = 1_000;

/// The answers of recent mutating calls.
#[derive(Clone)]
pub(crate) struct Idempotency {
    calls: Arc<Mutex<Calls>>,
    db: SqlitePool,
}

#[derive(Default)]
struct Calls {
    known: HashMap<Key, Call>,
    /// As they started, those too that failed and are forgotten.
    started: VecDeque<(Instant, Key)>,
}

/// The call that a task works on.
#[derive(Clone)]
struct Current {
    rpc: &'static str,
    key: String,
    /// Whether its answer is written down, or that it has begun.
    is_written: Arc<AtomicBool>,
}

tokio::task_local! {
    static CURRENT: Current;
}

/// Writes the answer of a call down, with what it does: to be called in the task of the call. Does
/// nothing where the client has no key, or `rpc` is not what it called but a part of that.
pub(crate) async fn remember(
    transaction: &mut SqliteConnection,
    rpc: &'static str,
    answer: &impl Message,
) -> Result<(), sqlx::Error> {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let Ok(current) = CURRENT.try_with(Clone::clone) else { return Ok(()) };
    if current.rpc != rpc {
        return Ok(());
    }
    sqlx::query("INSERT OR REPLACE INTO repeats (rpc, key, answer, at) VALUES (?, ?, ?, ?)")
        .bind(current.rpc)
        .bind(&current.key)
        .bind(answer.encode_to_vec())
        .bind(clock::now())
        .execute(&mut *transaction)
        .await?;
    current.is_written.store(true, Ordering::Release);
    if WRITTEN.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
        forget_old(transaction).await?;
    }
    Ok(())
}

/// Runs one statement and, if it changes anything, writes the answer of the call down with it; how
/// many rows it changes.
pub(crate) async fn change(
    db: &SqlitePool,
    rpc: &'static str,
    answer: &impl Message,
    statement: Query<'_, Sqlite, SqliteArguments>,
) -> Result<u64, sqlx::Error> {
    let mut transaction = db.begin_with("BEGIN IMMEDIATE").await?;
    let changed = statement.execute(&mut *transaction).await?.rows_affected();
    if changed > 0 {
        remember(&mut transaction, rpc, answer).await?;
    }
    transaction.commit().await?;
    Ok(changed)
}

/// Writes down that the call begins, and what it has found: to be called in its task, before it
/// changes the first file. Does nothing where the client has no key.
pub(crate) async fn begin(db: &SqlitePool, plan: &str) -> CrateResult<()> {
    let Ok(current) = CURRENT.try_with(Clone::clone) else { return Ok(()) };
    sqlx::query("INSERT OR REPLACE INTO begun (rpc, key, plan, at) VALUES (?, ?, ?, ?)")
        .bind(current.rpc)
        .bind(&current.key)
        .bind(plan)
        .bind(clock::now())
        .execute(db)
        .await
        .map_err(Error::database("record that a call begins"))?;
    current.is_written.store(true, Ordering::Release);
    Ok(())
}

/// What an earlier attempt of this call had found when it began: the server was killed before it
/// answered.
pub(crate) async fn begun(db: &SqlitePool) -> CrateResult<Option<String>> {
    let Ok(current) = CURRENT.try_with(Clone::clone) else { return Ok(None) };
    let plan = sqlx::query_scalar("SELECT plan FROM begun WHERE rpc = ? AND key = ? AND at >= ?")
        .bind(current.rpc)
        .bind(&current.key)
        .bind(clock::now() - REMEMBERED.as_secs_f64())
        .fetch_optional(db)
        .await;
    plan.map_err(Error::database("look up whether a call has begun"))
}

async fn forget_old(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for forget in ["DELETE FROM repeats WHERE at < ?", "DELETE FROM begun WHERE at < ?"] {
        let oldest = clock::now() - REMEMBERED.as_secs_f64();
        sqlx::query(forget).bind(oldest).execute(&mut *connection).await?;
    }
    Ok(())
}

struct Call {
    started: Instant,
    answer: Answer,
}

impl Idempotency {
    /// With the answers that an earlier server wrote down.
    pub(crate) async fn open(db: SqlitePool) -> CrateResult<Self> {
        let read = async {
            let mut connection = db.acquire().await?;
            forget_old(&mut connection).await?;
            sqlx::query_as("SELECT rpc, key, answer FROM repeats ORDER BY at DESC LIMIT ?")
                .bind(i64::try_from(CAPACITY / 2).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await
        };
        let rows: Vec<(String, String, Vec<u8>)> =
            read.await.map_err(Error::database("read the answers of earlier calls"))?;
        let started = Instant::now();
        let call = |(rpc, key, answer)| {
            let answer = futures::future::ready(Ok(answer)).boxed().shared();
            ((Cow::Owned(rpc), key), Call { started, answer })
        };
        let mut calls = Calls::default();
        // They were read from the newest on.
        for (key, call) in rows.into_iter().rev().map(call) {
            calls.insert(key, call);
        }
        Ok(Self { calls: Arc::new(Mutex::new(calls)), db })
    }

    /// Runs `work`, or waits for the answer of an earlier attempt with the same key.
    ///
    /// A failure is not kept: the next attempt runs again.
    pub(crate) async fn once<M>(
        &self,
        rpc: &'static str,
        caller: &Caller,
        work: impl Future<Output = Result<M, Status>> + Send + 'static,
    ) -> Result<M, Status>
    where
        M: Message + Default + 'static,
    {
        let running = async move { work.await.map(|answer| answer.encode_to_vec()) };
        let Some(key) = caller.idempotency_key.clone() else {
            return decode(&spawn(running).await?);
        };
        let is_written = Arc::new(AtomicBool::new(false));
        let current = Current { rpc, key: key.clone(), is_written: Arc::clone(&is_written) };
        let key = (Cow::Borrowed(rpc), key);
        // Part of the task: nobody may wait for the answer any more.
        let (calls, its_key) = (self.clone(), key.clone());
        let running = async move {
            let result = running.await;
            reach(Point::CallAnswered);
            if result.is_err() && is_written.load(Ordering::Acquire) {
                calls.unwrite(&its_key).await;
            }
            result
        };
        let answer = self.join(&key, CURRENT.scope(current, running));
        let result = answer.clone().await;
        if result.is_err() {
            self.forget(&key, &answer);
        }
        decode(&result?)
    }

    /// What failed after all is done again, by the next server too.
    async fn unwrite(&self, (rpc, key): &Key) {
        for forget in [
            "DELETE FROM repeats WHERE rpc = ? AND key = ?",
            "DELETE FROM begun WHERE rpc = ? AND key = ?",
        ] {
            let forget = sqlx::query(forget).bind(rpc.as_ref()).bind(key);
            if let Err(error) = forget.execute(&self.db).await {
                tracing::warn!(%error, rpc = rpc.as_ref(), "a failed call is not forgotten");
            }
        }
    }

    fn join(
        &self,
        key: &Key,
        work: impl Future<Output = Result<Vec<u8>, Status>> + Send + 'static,
    ) -> Answer {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.known.get(key) {
            return call.answer.clone();
        }
        calls.make_room();
        let answer = spawn(work).boxed().shared();
        calls.insert(key.clone(), Call { started: Instant::now(), answer: answer.clone() });
        answer
    }

    fn forget(&self, key: &Key, failed: &Answer) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.known.get(key).is_some_and(|call| call.answer.ptr_eq(failed)) {
            calls.known.remove(key);
        }
    }
}

impl Calls {
    fn insert(&mut self, key: Key, call: Call) {
        self.started.push_back((call.started, key.clone()));
        self.known.insert(key, call);
    }

    /// Forgets calls that are old, and the oldest where there are many: a few at each call, never all at once.
    fn make_room(&mut self) {
        while let Some((started, _)) = self.started.front() {
            if self.started.len() < CAPACITY && started.elapsed() < REMEMBERED {
                return;
            }
            let Some((started, key)) = self.started.pop_front() else { return };
            // One that failed may have been made again since.
            if self.known.get(&key).is_some_and(|call| call.started == started) {
                self.known.remove(&key);
            }
        }
    }
}

fn spawn(
    work: impl Future<Output = Result<Vec<u8>, Status>> + Send + 'static,
) -> impl Future<Output = Result<Vec<u8>, Status>> + Send + 'static {
    let task = tokio::spawn(work);
    async move {
        task.await.unwrap_or_else(|_| Err(Status::internal("the call ended without an answer")))
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|_| Status::internal("the answer could not be repeated"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::caller::ClientKind;

    fn caller(key: &str) -> Caller {
        Caller {
            kind: ClientKind::Python,
            needs_tls: false,
            version: String::new(),
            idempotency_key: Some(key.to_owned()),
        }
    }

    async fn open(db: SqlitePool) -> Idempotency {
        sqlx::raw_sql(include_str!("../migrations/0021_repeats.sql")).execute(&db).await.unwrap();
        sqlx::raw_sql(include_str!("../migrations/0022_begun.sql")).execute(&db).await.unwrap();
        Idempotency::open(db).await.unwrap()
    }

    #[sqlx::test(migrations = false)]
    async fn what_was_written_down_is_answered_by_the_next_server(db: SqlitePool) {
        let calls = open(db.clone()).await;
        let write = async |key: &str, answer: u32, fails: bool| {
            let db = db.clone();
            let work = async move {
                let mut transaction = db.begin().await.unwrap();
                remember(&mut transaction, "part", &1).await.unwrap();
                remember(&mut transaction, "rpc", &answer).await.unwrap();
                transaction.commit().await.unwrap();
                if fails { Err(Status::unavailable("not now")) } else { Ok(answer) }
            };
            calls.once::<u32>("rpc", &caller(key), work).await
        };
        assert_eq!(write("a", 7, false).await.unwrap(), 7);
        write("b", 8, true).await.unwrap_err();
        let next = Idempotency::open(db.clone()).await.unwrap();
        let again = async |rpc, key: &str| {
            next.once::<u32>(rpc, &caller(key), async { Ok(1) }).await.unwrap()
        };
        assert_eq!(again("rpc", "a").await, 7);
        assert_eq!(again("rpc", "b").await, 1, "it failed, so it was not done");
        assert_eq!(again("other", "a").await, 1, "another call with the same key");
        sqlx::query("UPDATE repeats SET at = 0").execute(&db).await.unwrap();
        let later = Idempotency::open(db).await.unwrap();
        assert_eq!(later.once::<u32>("rpc", &caller("a"), async { Ok(1) }).await.unwrap(), 1);
    }

    #[sqlx::test(migrations = false)]
    async fn what_has_begun_is_known_until_it_fails_or_gets_old(db: SqlitePool) {
        let calls = open(db.clone()).await;
        let attempt = async |calls: &Idempotency, key: &str, fails: bool| {
            let work = {
                let db = db.clone();
                async move {
                    let found = begun(&db).await.unwrap();
                    begin(&db, "as I found it").await.unwrap();
                    if fails {
                        Err(Status::unavailable("not now"))
                    } else {
                        Ok(found.unwrap_or_default())
                    }
                }
            };
            calls.once::<String>("rpc", &caller(key), work).await
        };
        assert_eq!(attempt(&calls, "a", false).await.unwrap(), "");
        attempt(&calls, "b", true).await.unwrap_err();
        let next = Idempotency::open(db.clone()).await.unwrap();
        assert_eq!(attempt(&next, "a", false).await.unwrap(), "as I found it");
        assert_eq!(attempt(&next, "b", false).await.unwrap(), "", "it failed, so it has not begun");
        sqlx::query("UPDATE begun SET at = 0").execute(&db).await.unwrap();
        let later = Idempotency::open(db.clone()).await.unwrap();
        assert_eq!(attempt(&later, "a", false).await.unwrap(), "");
    }

    #[sqlx::test(migrations = false)]
    async fn a_repeated_key_runs_once_and_answers_the_same(db: SqlitePool) {
        let calls = open(db).await;
        let count = Arc::new(AtomicU32::new(0));
        let attempt = |key: &'static str| {
            let (calls, count) = (calls.clone(), Arc::clone(&count));
            async move {
                let work = async move { Ok(count.fetch_add(1, Ordering::SeqCst) + 1) };
                calls.once::<u32>("rpc", &caller(key), work).await.unwrap()
            }
        };
        assert_eq!(attempt("a").await, 1);
        assert_eq!(attempt("a").await, 1);
        assert_eq!(attempt("b").await, 2);
    }

    #[sqlx::test(migrations = false)]
    async fn a_failed_attempt_is_tried_again(db: SqlitePool) {
        let calls = open(db).await;
        let failing = async { Err(Status::unavailable("not now")) };
        calls.once::<u32>("rpc", &caller("a"), failing).await.unwrap_err();
        assert_eq!(calls.once::<u32>("rpc", &caller("a"), async { Ok(7) }).await.unwrap(), 7);
    }

    #[sqlx::test(migrations = false)]
    async fn work_goes_on_when_the_first_attempt_is_dropped(db: SqlitePool) {
        let calls = open(db).await;
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _ = gate.await;
            Ok(5)
        };
        let (who, first) = (caller("a"), calls.clone());
        let mut attempt = Box::pin(first.once::<u32>("rpc", &who, work));
        assert!(futures::poll!(&mut attempt).is_pending());
        drop(attempt);
        go.send(()).unwrap();
        assert_eq!(calls.once::<u32>("rpc", &who, async { Ok(6) }).await.unwrap(), 5);
    }

    #[test]
    fn the_oldest_calls_are_forgotten_and_what_is_made_again_is_not() {
        let answer = || futures::future::ready(Ok(Vec::new())).boxed().shared();
        let key = |number: usize| (Cow::Borrowed("rpc"), number.to_string());
        let mut calls = Calls::default();
        let first = Instant::now();
        for number in 0..CAPACITY {
            let started = first + Duration::from_nanos(number as u64);
            calls.insert(key(number), Call { started, answer: answer() });
        }
        // It failed, and was made again.
        calls.known.remove(&key(0));
        let again = first + Duration::from_secs(1);
        calls.insert(key(0), Call { started: again, answer: answer() });
        calls.make_room();
        assert!(calls.known.contains_key(&key(0)) && !calls.known.contains_key(&key(1)));
        assert_eq!(calls.started.len(), CAPACITY - 1);
    }
}
