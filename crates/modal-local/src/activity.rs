//! When the server was last used, so that an idle one can end itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts calls and remembers the time of the last.
#[derive(Clone)]
pub(crate) struct Activity {
    shared: Arc<Shared>,
}

struct Shared {
    running: AtomicUsize,
    last: Mutex<Instant>,
}

/// One call under way; dropping it ends it.
pub(crate) struct Call {
    shared: Arc<Shared>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        let last = Mutex::new(Instant::now());
        Self { shared: Arc::new(Shared { running: AtomicUsize::new(0), last }) }
    }

    /// Notes that a call begins.
    pub(crate) fn begin(&self) -> Call {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        self.shared.touch();
        Call { shared: Arc::clone(&self.shared) }
    }

    /// How long nothing has been asked of the server; zero while a call runs.
    pub(crate) fn idle_for(&self) -> Duration {
        self.idle_at(Instant::now())
    }

    fn idle_at(&self, now: Instant) -> Duration {
        let last = *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.shared.running.load(Ordering::SeqCst) {
            0 => now.saturating_duration_since(last),
            _ => Duration::ZERO,
        }
    }
}

impl Shared {
    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.shared.touch();
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_call_keeps_the_server_from_being_idle() {
        let activity = Activity::new();
        let later = Instant::now() + Duration::from_secs(3_600);
        assert!(activity.idle_at(later) >= Duration::from_secs(3_590));
        let call = activity.begin();
        assert_eq!(activity.idle_at(later), Duration::ZERO);
        drop(call);
        assert!(activity.idle_for() < activity.idle_at(later));
    }
}
