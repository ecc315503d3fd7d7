//! A repeated attempt of a mutating call gets the answer of the first, and does nothing again.
//!
//! A client that lost its connection sends the call again with the same key. The first attempt may
//! be finished or still running; in both cases its answer is the answer. Work runs in a task of its
//! own, so that a lost connection does not stop it half-way.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use prost::Message;
use tokio::time::Instant;
use tonic::Status;

use crate::caller::Caller;

/// Clients make four attempts within seconds; throttled ones and long uploads take minutes.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// Answers kept at most; the oldest go first.
const CAPACITY: usize = 10_000;

type Answer = Shared<BoxFuture<'static, Result<Vec<u8>, Status>>>;
type Key = (&'static str, String);

/// The answers of recent mutating calls.
#[derive(Clone, Default)]
pub(crate) struct Idempotency {
    calls: Arc<Mutex<HashMap<Key, Call>>>,
}

struct Call {
    started: Instant,
    answer: Answer,
}

impl Idempotency {
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
        let key = (rpc, key);
        let answer = self.join(&key, running);
        let result = answer.clone().await;
        if result.is_err() {
            self.forget(&key, &answer);
        }
        decode(&result?)
    }

    fn join(
        &self,
        key: &Key,
        work: impl Future<Output = Result<Vec<u8>, Status>> + Send + 'static,
    ) -> Answer {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get(key) {
            return call.answer.clone();
        }
        make_room(&mut calls);
        let answer = spawn(work).boxed().shared();
        calls.insert(key.clone(), Call { started: Instant::now(), answer: answer.clone() });
        answer
    }

    fn forget(&self, key: &Key, failed: &Answer) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.get(key).is_some_and(|call| call.answer.ptr_eq(failed)) {
            calls.remove(key);
        }
    }
}

fn make_room(calls: &mut HashMap<Key, Call>) {
    if calls.len() < CAPACITY / 2 {
        return;
    }
    calls.retain(|_, call| call.started.elapsed() < REMEMBERED);
    if calls.len() >= CAPACITY {
        let oldest = calls.iter().min_by_key(|(_, call)| call.started).map(|(key, _)| key.clone());
        oldest.and_then(|key| calls.remove(&key));
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
        Caller { kind: ClientKind::Python, idempotency_key: Some(key.to_owned()) }
    }

    #[tokio::test]
    async fn a_repeated_key_runs_once_and_answers_the_same() {
        let calls = Idempotency::default();
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

    #[tokio::test]
    async fn a_failed_attempt_is_tried_again() {
        let calls = Idempotency::default();
        let failing = async { Err(Status::unavailable("not now")) };
        calls.once::<u32>("rpc", &caller("a"), failing).await.unwrap_err();
        assert_eq!(calls.once::<u32>("rpc", &caller("a"), async { Ok(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_goes_on_when_the_first_attempt_is_dropped() {
        let calls = Idempotency::default();
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
}
