//! Whether anybody uses a sandbox: what its idle time-out goes by.
//!
//! A sandbox is active while a command runs in it, while a tunnel connection is open, and whenever
//! its standard input is written. Its entrypoint does not count: it runs as long as the sandbox.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Counts the uses of one sandbox. Cloning gives another handle to the same count.
#[derive(Clone)]
pub(crate) struct Activity {
    uses: watch::Sender<Uses>,
}

#[derive(Clone, Copy)]
struct Uses {
    open: usize,
    last: Instant,
}

/// One use in progress; dropping it ends the use.
pub(crate) struct Use {
    uses: watch::Sender<Uses>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { uses: watch::Sender::new(Uses { open: 0, last: Instant::now() }) }
    }

    /// Begins a use that lasts.
    pub(crate) fn begin(&self) -> Use {
        self.uses.send_modify(|uses| uses.open += 1);
        Use { uses: self.uses.clone() }
    }

    /// Notes a use that is over at once.
    pub(crate) fn touch(&self) {
        drop(self.begin());
    }

    /// Returns when nothing was used for `limit`; never without a limit.
    pub(crate) async fn idle_for(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        let mut changes = self.uses.subscribe();
        loop {
            let now = *changes.borrow_and_update();
            if now.open > 0 {
                // The sender is `self`'s, so this cannot fail.
                let _ = changes.changed().await;
                continue;
            }
            tokio::select! {
                () = sleep_until(now.last + limit) => return,
                _ = changes.changed() => {}
            }
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.uses.send_modify(|uses| {
            uses.open -= 1;
            uses.last = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn idle_time_starts_when_the_last_use_ends() {
        let activity = Activity::new();
        let started = Instant::now();
        let (command, tunnel) = (activity.begin(), activity.begin());
        let waiting = tokio::spawn({
            let activity = activity.clone();
            async move { activity.idle_for(Some(LIMIT)).await }
        });
        tokio::time::sleep(Duration::from_secs(25)).await;
        drop(command);
        tokio::time::sleep(Duration::from_secs(25)).await;
        drop(tunnel);
        waiting.await.unwrap();
        assert_eq!(started.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_touch_starts_the_idle_time_again() {
        let activity = Activity::new();
        let started = Instant::now();
        let toucher = activity.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(9)).await;
            toucher.touch();
        });
        activity.idle_for(Some(LIMIT)).await;
        assert_eq!(started.elapsed().as_secs(), 19);
    }
}
