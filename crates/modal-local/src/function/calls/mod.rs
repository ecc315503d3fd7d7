//! Calls of functions: their inputs and outputs, as records.
//!
//! What a client was told is kept survives the server: inputs without an end are queued again when
//! the next server starts. Requests of the web are no records; they live in [`super::exchange`].
//!
//! [`record`] has the calls themselves, [`input`] what they were made with, [`output`] what came of it,
//! [`chunk`] what generators yield.

mod chunk;
mod input;
mod output;
mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::SqlitePool;
use tokio::sync::watch;

pub(crate) use self::input::{Input, InputRecord};
pub(crate) use self::output::OutputRange;
pub(crate) use self::record::{CallRecord, NewCall};
use crate::ids::CallId;

/// The calls of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Calls {
    db: SqlitePool,
    watched: Arc<Mutex<HashMap<CallId, watch::Sender<u64>>>>,
}

impl Calls {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db, watched: Arc::default() }
    }

    /// Wakes up whenever something of the call is recorded.
    pub(crate) fn watch(&self, call: &CallId) -> watch::Receiver<u64> {
        let mut watched = self.watched();
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.entry(call.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn notify(&self, call: &CallId) {
        if let Some(sender) = self.watched().get(call) {
            sender.send_modify(|count| *count += 1);
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<CallId, watch::Sender<u64>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a poll may be held: what clients ask for, at most this.
pub(crate) fn poll_time(seconds: f32) -> Duration {
    const LONGEST: f32 = 60.0;
    Duration::from_secs_f32(if seconds > 0.0 { seconds.min(LONGEST) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use modal_proto::client::generic_result::GenericStatus;
    use modal_proto::client::{
        DataChunk, FunctionCallInvocationType, FunctionCallType, FunctionGetOutputsItem,
        FunctionInput, GenericResult,
    };

    use super::*;
    use crate::ids::{AppId, FunctionId};

    fn call() -> NewCall {
        NewCall {
            function: FunctionId::random(),
            app: AppId::random(),
            kind: FunctionCallType::Map,
            invocation: FunctionCallInvocationType::Sync,
            parent: String::new(),
            retries_here: true,
        }
    }

    fn output(input: &Input, status: GenericStatus) -> FunctionGetOutputsItem {
        FunctionGetOutputsItem {
            idx: input.idx,
            input_id: input.id.to_string(),
            result: Some(GenericResult { status: status.into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[sqlx::test]
    async fn outputs_come_once_in_order_and_wake_who_waits(db: SqlitePool) {
        let calls = Calls::new(db);
        let inputs = (0..3).map(|idx| (idx, FunctionInput::default())).collect();
        let (id, inputs) = calls.begin(&call(), inputs).await.unwrap();
        let mut watch = calls.watch(&id);
        watch.mark_unchanged();
        for input in [&inputs[2], &inputs[0]] {
            let item = output(input, GenericStatus::Success);
            assert!(calls.finish(input, &item).await.unwrap());
            assert!(!calls.finish(input, &item).await.unwrap(), "the first end stays");
        }
        assert!(watch.has_changed().unwrap());
        let all = calls.outputs(&id, OutputRange::default()).await.unwrap();
        assert_eq!(all.iter().map(|(_, item)| item.idx).collect::<Vec<_>>(), [2, 0]);
        let range = OutputRange { after: all[0].0, ..Default::default() };
        assert_eq!(calls.outputs(&id, range).await.unwrap().len(), 1);
        let range = OutputRange { indices: Some((2, 2)), ..Default::default() };
        assert_eq!(calls.outputs(&id, range).await.unwrap()[0].1.idx, 2);
        assert_eq!(calls.unfinished(&id).await.unwrap(), 1);
        assert_eq!(calls.pending().await.unwrap()[0].id, inputs[1].id);
    }

    #[sqlx::test]
    async fn an_input_that_is_begun_anew_has_no_output(db: SqlitePool) {
        let calls = Calls::new(db);
        let (id, inputs) = calls.begin(&call(), vec![(0, FunctionInput::default())]).await.unwrap();
        calls.finish(&inputs[0], &output(&inputs[0], GenericStatus::Failure)).await.unwrap();
        let record = calls.input(inputs[0].id.as_str()).await.unwrap();
        let again = calls.again(&record, FunctionInput::default(), 1).await.unwrap();
        calls.restart(std::slice::from_ref(&again), &()).await.unwrap();
        assert_eq!((again.attempt, &again.call), (1, &id));
        assert!(calls.outputs(&id, OutputRange::default()).await.unwrap().is_empty());
        assert_eq!(calls.pending().await.unwrap()[0].attempt, 1);
    }

    #[sqlx::test]
    async fn chunks_that_come_twice_are_kept_once(db: SqlitePool) {
        let calls = Calls::new(db);
        let (id, _) = calls.begin(&call(), vec![(0, FunctionInput::default())]).await.unwrap();
        let chunk = |index| DataChunk { index, ..Default::default() };
        calls.add_chunks(&id, vec![chunk(1), chunk(2)]).await.unwrap();
        calls.add_chunks(&id, vec![chunk(2), chunk(3)]).await.unwrap();
        let after = calls.chunks(&id, 1).await.unwrap();
        assert_eq!(after.iter().map(|chunk| chunk.index).collect::<Vec<_>>(), [2, 3]);
    }
}
