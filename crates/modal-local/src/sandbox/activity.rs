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
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn idle_time_starts_when_the_last_use_ends() {
        let activity = Activity::new();
        let (command, tunnel) = (activity.begin(), activity.begin());
        let mut idle = Box::pin(activity.idle_for(Some(Duration::ZERO)));
        assert!(poll!(&mut idle).is_pending());
        drop(command);
        assert!(poll!(&mut idle).is_pending());
        drop(tunnel);
        idle.await;
    }

    #[tokio::test]
    async fn an_unused_sandbox_without_limit_is_never_idle() {
        let activity = Activity::new();
        let mut unlimited = Box::pin(activity.idle_for(None));
        assert!(poll!(&mut unlimited).is_pending());
        let mut limited = Box::pin(activity.idle_for(Some(Duration::from_secs(3_600))));
        assert!(poll!(&mut limited).is_pending());
    }
}
