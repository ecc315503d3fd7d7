//! Ending a run early: in order within a promise, or at once.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Sandboxes are ended within this time of the request.
pub(crate) const ENDING: Duration = Duration::from_millis(1_900);
/// Of it, the time to take what agents left.
pub(crate) const COLLECTING: Duration = Duration::from_millis(900);
/// Everything is recorded within this time of the request, or left to the next command.
pub const RECORDING: Duration = Duration::from_millis(3_000);

/// A request to end a run. Clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Request>);

#[derive(Debug, Default)]
struct Request {
    asked: CancellationToken,
    hurried: CancellationToken,
    at: OnceLock<Instant>,
}

impl Stop {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks. The first time the run ends in order; from the second on nothing is waited for.
    pub fn ask(&self) {
        match self.0.at.set(Instant::now()) {
            Ok(()) => self.0.asked.cancel(),
            Err(_) => self.0.hurried.cancel(),
        }
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        self.0.asked.is_cancelled()
    }

    /// Ends when somebody asks.
    pub async fn asked(&self) {
        self.0.asked.cancelled().await;
    }

    /// Does a piece of work that may take `limit`, and no longer than `after` from the request on. None
    /// where that was not enough, or where somebody asked twice.
    pub async fn within<T>(
        &self,
        limit: Duration,
        after: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let over = async {
            self.asked().await;
            let at = self.0.at.get().copied().unwrap_or_else(Instant::now);
            tokio::time::sleep_until(at + after).await;
        };
        tokio::select! {
            biased;
            () = self.0.hurried.cancelled() => None,
            done = work => Some(done),
            () = over => None,
            () = tokio::time::sleep(limit) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn work_has_its_own_limit_until_somebody_asks() {
        let (stop, began) = (Stop::new(), Instant::now());
        assert_eq!(stop.within(LONG, ENDING, ready(1)).await, Some(1));
        assert_eq!(stop.within(LONG, ENDING, pending::<()>()).await, None);
        assert_eq!(began.elapsed(), LONG);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_shortens_what_is_under_way_and_what_follows() {
        let stop = Stop::new();
        let asks = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.ask();
        };
        let began = Instant::now();
        tokio::join!(asks, stop.within(LONG, ENDING, pending::<()>()));
        assert_eq!(began.elapsed(), Duration::from_secs(1) + ENDING);
        assert_eq!(stop.within(LONG, ENDING, ready(2)).await, Some(2));
        assert_eq!(stop.within(LONG, RECORDING, pending::<()>()).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(1) + RECORDING);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_twice_waits_for_nothing() {
        let (stop, began) = (Stop::new(), Instant::now());
        stop.ask();
        stop.ask();
        assert_eq!(stop.within(LONG, LONG, ready(1)).await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
