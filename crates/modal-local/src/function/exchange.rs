//! Requests of the web on their way: messages to the program in the container and back.
//!
//! They live in memory and end with the server. Both directions have room for a few messages; who is
//! faster waits, so that a large body never lies here as a whole.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use modal_proto::client::asgi::Type as Message;
use modal_proto::client::{Asgi, DataChunk, DataFormat, GenericResult};
use prost::Message as _;
use tokio::sync::{mpsc, watch};

use crate::ids::CallId;

/// Messages that wait in one direction, at most.
const ROOM: usize = 16;

/// One request and its answer.
pub(crate) struct Exchange {
    pub(crate) call: CallId,
    to_app: mpsc::Sender<Message>,
    from_front: tokio::sync::Mutex<mpsc::Receiver<Message>>,
    to_front: Mutex<Option<mpsc::Sender<Message>>>,
    from_app: tokio::sync::Mutex<mpsc::Receiver<Message>>,
    sent: AtomicU64,
    received: AtomicU64,
    result: watch::Sender<Option<GenericResult>>,
}

/// The exchanges under way.
#[derive(Default)]
pub(crate) struct Exchanges {
    open: Mutex<HashMap<CallId, Arc<Exchange>>>,
}

impl Exchanges {
    /// Begins one.
    pub(crate) fn begin(&self) -> Arc<Exchange> {
        let (to_app, from_front) = mpsc::channel(ROOM);
        let (to_front, from_app) = mpsc::channel(ROOM);
        let exchange = Arc::new(Exchange {
            call: CallId::random(),
            to_app,
            from_front: from_front.into(),
            to_front: Some(to_front).into(),
            from_app: from_app.into(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            result: watch::Sender::new(None),
        });
        self.open().insert(exchange.call.clone(), Arc::clone(&exchange));
        exchange
    }

    pub(crate) fn find(&self, call: &CallId) -> Option<Arc<Exchange>> {
        self.open().get(call).cloned()
    }

    /// The program has answered, or never will.
    pub(crate) fn finish(&self, call: &CallId, result: GenericResult) {
        if let Some(exchange) = self.find(call) {
            exchange.result.send_replace(Some(result));
            exchange.to_front.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Nobody will ask for it any more.
    pub(crate) fn forget(&self, call: &CallId) {
        self.open().remove(call);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<CallId, Arc<Exchange>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Sends a message to the program; waits while there is no room, and not beyond its end.
    pub(crate) async fn send(&self, message: Message) {
        tokio::select! {
            // The receiver is in `self`, so this cannot fail.
            _ = self.to_app.send(message) => {}
            () = self.ended() => {}
        }
    }

    /// The next message of the program; `None` when no more will come.
    pub(crate) async fn receive(&self) -> Option<Message> {
        self.from_app.lock().await.recv().await
    }

    /// How it ended, if it did.
    pub(crate) fn result(&self) -> Option<GenericResult> {
        self.result.borrow().clone()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        // The sender is `self`'s, so this cannot fail.
        let _ = self.result.subscribe().wait_for(Option::is_some).await;
    }

    /// The next message for the program, as its container reads it. Numbers go on where they were if
    /// the container asks anew.
    pub(crate) async fn next_chunk(&self) -> Option<DataChunk> {
        let mut messages = self.from_front.lock().await;
        let message = messages.recv().await?;
        let index = self.sent.fetch_add(1, Ordering::SeqCst) + 1;
        let data = Asgi { r#type: Some(message) }.encode_to_vec();
        Some(DataChunk {
            data_format: DataFormat::Asgi.into(),
            data_oneof: Some(modal_proto::client::data_chunk::DataOneof::Data(data)),
            index,
        })
    }

    /// Takes a message that the program sent; one that came before is left out. Waits while there is
    /// no room. Messages after the end, or for a client that is gone, are for nobody.
    pub(crate) async fn put(&self, index: u64, asgi: Asgi) {
        if self.received.fetch_max(index, Ordering::SeqCst) >= index {
            return;
        }
        let front = self.to_front.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(front), Some(message)) = (front, asgi.r#type) {
            let _ = front.send(message).await;
        }
    }

    /// The client is gone: what the program still sends is dropped.
    pub(crate) async fn abandon(&self) {
        self.from_app.lock().await.close();
    }
}
