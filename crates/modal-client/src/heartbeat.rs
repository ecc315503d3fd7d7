//! Keeping something alive that exists as long as its client does.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::error::Result;

/// How often an ephemeral object is kept alive, as Modal's own client does it.
pub(crate) const EPHEMERAL: Duration = Duration::from_secs(300);

/// A task that sends heartbeats, the first at once, until this is dropped.
#[derive(Debug)]
pub(crate) struct Heartbeat(JoinHandle<()>);

impl Heartbeat {
    /// `beat` is called every `period`; one that fails is logged, and the next is sent at its time.
    pub(crate) fn start<F>(
        period: Duration,
        what: &'static str,
        mut beat: impl FnMut() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = beat().await {
                    tracing::warn!(%error, "a heartbeat for {what} failed");
                }
            }
        }))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beats_come_at_once_and_every_period_until_the_end() {
        let (sender, mut beats) = tokio::sync::mpsc::unbounded_channel();
        let heart = Heartbeat::start(Duration::from_millis(1), "a test", move || {
            let sent = sender.send(());
            async move { sent.map_err(|_| panic!("nobody listens")) }
        });
        for _ in 0..3 {
            beats.recv().await.unwrap();
        }
        drop(heart);
        // The sender goes with the task, so this ends when the task does.
        while beats.recv().await.is_some() {}
    }
}
