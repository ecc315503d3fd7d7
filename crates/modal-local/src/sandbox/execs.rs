//! The commands of one sandbox, by the id that the client made up.
//!
//! A client that lost its connection sends the start again: the same id starts once. What a command
//! put out stays readable after its end, within bounds.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tonic::Status;

use super::process::RunningProcess;

/// Ended commands that stay readable, at most.
const MAX_ENDED: usize = 4_096;
/// Bytes of output of ended commands that stay readable, at most; but see `READING_TIME`.
const MAX_RETAINED: u64 = 512 << 20;
/// So long after a command's end its output is kept whatever its size: its client may only begin to read it.
const READING_TIME: Duration = Duration::from_secs(60);
/// Client-made ids are UUIDs; nothing much longer is stored.
const MAX_ID_LENGTH: usize = 128;

type Starting = Shared<BoxFuture<'static, Result<Arc<RunningProcess>, Status>>>;

/// The commands of one sandbox.
#[derive(Default)]
pub(crate) struct ExecTable {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    execs: HashMap<String, Starting>,
    /// In order of their start.
    started: VecDeque<String>,
}

impl ExecTable {
    /// Starts a command with `start`, or waits for the start of an earlier call with the same id.
    ///
    /// `start` runs in a task of its own: a caller that goes away does not stop it. A failed start
    /// is forgotten.
    pub(crate) async fn start(
        &self,
        id: &str,
        start: impl Future<Output = Result<Arc<RunningProcess>, Status>> + Send + 'static,
    ) -> Result<Arc<RunningProcess>, Status> {
        if id.is_empty() || id.len() > MAX_ID_LENGTH {
            return Err(Status::invalid_argument("`exec_id` must have 1 to 128 characters"));
        }
        let starting = self.join(id, start);
        let started = starting.clone().await;
        if started.is_err() {
            self.forget(id, &starting);
        }
        started
    }

    /// The command of this id, once it is started.
    pub(crate) async fn get(&self, id: &str) -> Result<Arc<RunningProcess>, Status> {
        let starting = self.lock().execs.get(id).cloned();
        match starting {
            Some(starting) => starting.await,
            None => {
                let shown: String = id.chars().take(MAX_ID_LENGTH).collect();
                Err(Status::not_found(format!(
                    "exec `{shown}` is unknown, or its output is no longer kept"
                )))
            }
        }
    }

    /// Bytes of output kept for readers.
    pub(crate) fn retained(&self) -> u64 {
        let table = self.lock();
        table.execs.values().filter_map(started).map(|process| process.retained()).sum()
    }

    fn join(
        &self,
        id: &str,
        start: impl Future<Output = Result<Arc<RunningProcess>, Status>> + Send + 'static,
    ) -> Starting {
        let mut table = self.lock();
        if let Some(starting) = table.execs.get(id) {
            return starting.clone();
        }
        table.make_room();
        let task = tokio::spawn(start);
        let starting = async move {
            task.await.unwrap_or_else(|_| Err(Status::internal("the command's start was dropped")))
        };
        let starting = starting.boxed().shared();
        table.execs.insert(id.to_owned(), starting.clone());
        table.started.push_back(id.to_owned());
        starting
    }

    fn forget(&self, id: &str, failed: &Starting) {
        let mut table = self.lock();
        if table.execs.get(id).is_some_and(|starting| starting.ptr_eq(failed)) {
            table.execs.remove(id);
            table.started.retain(|other| other != id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Drops the oldest ended commands until the bounds hold. Running ones always stay.
    fn make_room(&mut self) {
        let mut ended: Vec<(String, u64, bool)> = Vec::new();
        for id in &self.started {
            let process = self.execs.get(id).and_then(started);
            if let Some(process) = process.filter(|process| process.exit().is_some()) {
                let may_go = process.ended_before(READING_TIME);
                ended.push((id.clone(), process.retained(), may_go));
            }
        }
        let mut count = ended.len();
        let mut bytes: u64 = ended.iter().map(|(_, retained, _)| retained).sum();
        for (id, retained, may_go) in ended {
            if count < MAX_ENDED && (bytes <= MAX_RETAINED || !may_go) {
                break;
            }
            count -= 1;
            bytes -= retained;
            self.execs.remove(&id);
            self.started.retain(|other| *other != id);
        }
    }
}

fn started(starting: &Starting) -> Option<Arc<RunningProcess>> {
    starting.peek().and_then(|result| result.as_ref().ok()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_start_is_told_to_all_that_wait_and_then_forgotten() {
        let table = ExecTable::default();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let first = table.start("e", async move {
            let _ = gate.await;
            Err(Status::not_found("no such program"))
        });
        let second = table.start("e", async { panic!("started twice") });
        let (first, second, ()) = tokio::join!(first, second, async { go.send(()).unwrap() });
        for result in [first, second] {
            assert_eq!(result.err().map(|status| status.code()), Some(tonic::Code::NotFound));
        }
        let third = table.start("e", async { Err(Status::aborted("tried again")) }).await;
        assert_eq!(third.err().map(|status| status.code()), Some(tonic::Code::Aborted));
    }

    #[tokio::test]
    async fn unknown_and_impossible_ids_are_told_apart() {
        let table = ExecTable::default();
        let unknown = table.get("nobody").await.err().map(|status| status.code());
        assert_eq!(unknown, Some(tonic::Code::NotFound));
        let start = table.start("", async { panic!("started") }).await;
        assert_eq!(start.err().map(|status| status.code()), Some(tonic::Code::InvalidArgument));
    }
}
