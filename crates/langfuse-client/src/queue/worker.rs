//! The task that makes batches and sends them.

use std::{mem, sync::Arc};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Deliver, Entry, Message, QueueConfig, report::Tally};

pub(super) async fn run(
    config: QueueConfig,
    mut inbox: mpsc::Receiver<Message>,
    delivery: impl Deliver,
    tally: Arc<Tally>,
) {
    let mut batch = Batch::default();
    loop {
        let message = match batch.opened {
            None => inbox.recv().await,
            Some(opened) => match timeout_at(opened + config.linger, inbox.recv()).await {
                Ok(message) => message,
                Err(_) => {
                    delivery.deliver(batch.take(), &tally).await;
                    continue;
                }
            },
        };
        match message {
            Some(Message::Event(entry)) => {
                if batch.bytes + entry.payload.len() > config.batch_bytes && batch.opened.is_some()
                {
                    delivery.deliver(batch.take(), &tally).await;
                }
                batch.push(entry);
                if batch.entries.len() >= config.batch_events || batch.bytes >= config.batch_bytes {
                    delivery.deliver(batch.take(), &tally).await;
                }
            }
            Some(Message::Flush(done)) => {
                deliver_rest(&mut batch, &delivery, &tally).await;
                // Nobody may be waiting any more.
                let _ = done.send(());
            }
            Some(Message::Close(done)) => {
                inbox.close();
                while let Some(message) = inbox.recv().await {
                    if let Message::Event(entry) = message {
                        batch.push(entry);
                    }
                }
                deliver_rest(&mut batch, &delivery, &tally).await;
                let _ = done.send(());
                return;
            }
            None => return deliver_rest(&mut batch, &delivery, &tally).await,
        }
    }
}

async fn deliver_rest(batch: &mut Batch, delivery: &impl Deliver, tally: &Tally) {
    if batch.opened.is_some() {
        delivery.deliver(batch.take(), tally).await;
    }
}

/// Events that go together; `opened` is when the first one came.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
    opened: Option<Instant>,
}

impl Batch {
    fn push(&mut self, entry: Entry) {
        self.opened.get_or_insert_with(Instant::now);
        self.bytes += entry.payload.len() + 1;
        self.entries.push(entry);
    }

    fn take(&mut self) -> Vec<Entry> {
        mem::take(self).entries
    }
}
