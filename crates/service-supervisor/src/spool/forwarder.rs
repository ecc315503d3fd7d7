//! Hands events on, oldest first, for as long as it takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use langfuse_client::ingestion::ItemSuccess;
use langfuse_client::{Client, Error, IngestionAnswer};
use rand::Rng as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::count::Fate;
use super::parcel::Parcel;
use super::store::{Result, Store, Waiting};
use crate::door::LIFE;
use crate::error::chain;
use crate::log::Log;

/// Events of one request.
const BATCH: u32 = 100;
/// Bytes of one request's events: Langfuse documents 3.5 MB.
const BATCH_BYTES: usize = 3_000_000;
/// Between two tries while Langfuse does not answer: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How often we look whether Langfuse is still the one that took the events.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// An event that Langfuse fails at so often holds up the others no longer.
const MAX_REFUSALS: i64 = 10;

pub(super) struct Forwarder {
    pub(super) client: Client,
    pub(super) store: Arc<Store>,
    /// Told when events came in.
    pub(super) news: Arc<Notify>,
    /// How long what was delivered is kept, in case that Langfuse loses it.
    pub(super) keep: Duration,
    pub(super) name: String,
    pub(super) log: Log,
}

/// Which Langfuse took the events, as its door says.
#[derive(Default)]
struct Life {
    name: Option<String>,
    looked: Option<Instant>,
}

/// How one try went.
enum Tried {
    /// There was nothing to hand on.
    Nothing,
    /// Something was handed on, or refused for good.
    Progress,
    /// Nothing could be handed on now.
    NotNow(String),
}

impl Forwarder {
    /// Works until `stop`, and then until there is nothing left or the first failure.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut troubled = false;
        let mut life = Life::default();
        loop {
            if let Err(error) = self.look(&mut life).await {
                self.say(&error.to_string());
            }
            // Asked before looking: news between the look and the wait is not missed.
            let news = self.news.notified();
            match self.try_once().await {
                Ok(Tried::Progress) => {
                    if std::mem::take(&mut troubled) {
                        self.say("traces are delivered again");
                    }
                    pause = FIRST_PAUSE;
                }
                Ok(Tried::Nothing) if stop.is_cancelled() => return,
                Ok(Tried::Nothing) => tokio::select! {
                    () = news => {}
                    () = stop.cancelled() => {}
                    () = self.next_look() => {}
                },
                Ok(Tried::NotNow(why)) => {
                    if !std::mem::replace(&mut troubled, true) {
                        self.say(&format!("traces wait on disk: {why}"));
                    }
                    // Told to stop, it tries once more.
                    if stop.is_cancelled() {
                        return;
                    }
                    wait(pause, &stop).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                Err(error) => {
                    self.say(&error.to_string());
                    if stop.is_cancelled() {
                        return;
                    }
                    wait(LAST_PAUSE, &stop).await;
                }
            }
        }
    }

    /// A database that is restored from its backup lacks the last minute: what was delivered in that time is handed on
    /// once more. Langfuse's door names itself anew in each life of its container; events are forgotten once the
    /// one that took them has lived on long enough for its backup to have them.
    async fn look(&self, life: &mut Life) -> Result<()> {
        if self.keep.is_zero() {
            return self.store.forget(self.keep).await;
        }
        if life.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        // Nothing is forgotten while it does not answer.
        let Ok(name) = self.client.health_header(LIFE).await else { return Ok(()) };
        life.looked = Some(Instant::now());
        if name == life.name {
            return self.store.forget(self.keep).await;
        }
        let is_first = life.name.is_none();
        life.name = name;
        let again = self.store.deliver_again().await?;
        if again > 0 && !is_first {
            self.say(&format!("Langfuse has started anew: {again} events are handed on once more"));
        }
        Ok(())
    }

    /// When the next look is due; without anything to look after, never.
    async fn next_look(&self) {
        match self.store.holds_delivered().await {
            Ok(true) if !self.keep.is_zero() => tokio::time::sleep(LOOK_EVERY).await,
            _ => std::future::pending().await,
        }
    }

    fn say(&self, text: &str) {
        self.log.say(format!("{}: {text}", self.name));
    }

    async fn try_once(&self) -> Result<Tried> {
        let mut batch = self.store.oldest(BATCH, BATCH_BYTES).await?;
        if batch.is_empty() {
            return Ok(Tried::Nothing);
        }
        let (parcel, taken) = Parcel::of(&batch);
        batch.truncate(taken);
        match self.hand_on(parcel, &batch).await {
            Ok(answer) => self.settle(batch, &answer).await,
            Err(error) => self.failed(batch, &error).await,
        }
    }

    /// Sends a parcel. Of spans Langfuse says nothing but that it has queued them all.
    async fn hand_on(
        &self,
        parcel: Parcel,
        batch: &[Waiting],
    ) -> langfuse_client::Result<IngestionAnswer> {
        match parcel {
            Parcel::Events(events) => self.client.ingest_written(events).await,
            Parcel::Spans(writer, requests) => {
                self.client.export_written(&requests, &writer).await?;
                let taken = |it: &Waiting| ItemSuccess { id: it.event.id.clone(), status: 200 };
                let successes = batch.iter().map(taken).collect();
                Ok(IngestionAnswer { successes, ..IngestionAnswer::default() })
            }
        }
    }

    /// Each event by its own verdict.
    async fn settle(&self, batch: Vec<Waiting>, answer: &IngestionAnswer) -> Result<Tried> {
        let taken = answer.successes.iter().map(|item| (item.id.as_str(), None));
        let refused = answer.errors.iter().map(|item| (item.id.as_str(), Some(item)));
        let verdicts: HashMap<&str, _> = taken.chain(refused).collect();
        let (mut settled, mut again) = (Vec::new(), Vec::new());
        let mut words = String::new();
        for Waiting { seq, event, refusals } in batch {
            match verdicts.get(event.id.as_str()) {
                Some(None) => settled.push((seq, Fate::Delivered)),
                Some(Some(error)) if error.is_transient() && refusals < MAX_REFUSALS => {
                    words = error.words();
                    again.push(seq);
                }
                Some(Some(error)) => {
                    self.say(&format!("event {} was refused: {}", event.id, error.words()));
                    settled.push((seq, Fate::Refused));
                }
                None if refusals < MAX_REFUSALS => {
                    words = "the answer does not name an event".to_owned();
                    again.push(seq);
                }
                None => settled.push((seq, Fate::Refused)),
            }
        }
        self.store.settle(&settled).await?;
        self.store.refused_for_now(&again).await?;
        Ok(if settled.is_empty() { Tried::NotNow(words) } else { Tried::Progress })
    }

    /// The whole request failed. Only what no later try can mend is given up.
    async fn failed(&self, batch: Vec<Waiting>, error: &Error) -> Result<Tried> {
        match error {
            Error::TooLarge { .. } | Error::Refused { .. } if batch.len() == 1 => {
                self.give_up(&batch, error).await
            }
            // Spans that an earlier deployment meant for another server: they would hold up all that come after.
            Error::NotFound { .. } if self.is_too_old_for_spans().await => {
                self.give_up(&batch, error).await
            }
            // One of them spoils the others: one by one.
            Error::TooLarge { .. } | Error::Refused { .. } => self.one_by_one(batch).await,
            _ => Ok(Tried::NotNow(chain(error))),
        }
    }

    /// What no later try can mend.
    async fn give_up(&self, batch: &[Waiting], error: &Error) -> Result<Tried> {
        for waiting in batch {
            self.say(&format!("event {} was refused: {error}", waiting.event.id));
        }
        let refused: Vec<_> = batch.iter().map(|it| (it.seq, Fate::Refused)).collect();
        self.store.settle(&refused).await?;
        Ok(Tried::Progress)
    }

    /// Whether it says that it is a Langfuse without OTLP.
    async fn is_too_old_for_spans(&self) -> bool {
        let health = self.client.health().await.ok();
        health.and_then(|it| it.major()).is_some_and(|major| major <= 2)
    }

    async fn one_by_one(&self, batch: Vec<Waiting>) -> Result<Tried> {
        for waiting in batch {
            let one = vec![waiting];
            let (parcel, _) = Parcel::of(&one);
            let tried = match self.hand_on(parcel, &one).await {
                Ok(answer) => self.settle(one, &answer).await?,
                Err(error @ (Error::TooLarge { .. } | Error::Refused { .. })) => {
                    self.give_up(&one, &error).await?
                }
                Err(error) => Tried::NotNow(chain(&error)),
            };
            if matches!(tried, Tried::NotNow(_)) {
                return Ok(tried);
            }
        }
        Ok(Tried::Progress)
    }
}

/// Waits, with jitter, until it is time or the end.
async fn wait(pause: Duration, stop: &CancellationToken) {
    let share = rand::rng().random_range(0.5..=1.0);
    tokio::select! {
        () = tokio::time::sleep(pause.mul_f64(share)) => {}
        () = stop.cancelled() => {}
    }
}
