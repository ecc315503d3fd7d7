//! When a call is sent again: the error is transient, the call may be repeated, and there is budget left.
//!
//! Decisions are pure; [`crate::rpc`] sleeps and sends. Every unary call carries an idempotency key that all its
//! attempts share, so repeating is safe by the API's contract. The numbers are those of Modal's own
//! Python client, version 1.6.4.

mod throttle;

use std::time::Duration;

use rand::Rng;
use tonic::{Code, Status};

pub(crate) use throttle::retry_after;

/// How often and how fast a call is repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RetryPolicy {
    /// Repetitions after the first attempt.
    pub(crate) retries: u32,
    /// Delay before the first repetition; it doubles.
    pub(crate) first: Duration,
    /// The longest delay.
    pub(crate) cap: Duration,
}

impl RetryPolicy {
    /// Of control-plane calls.
    pub(crate) const CONTROL: Self =
        Self { retries: 3, first: Duration::from_millis(100), cap: Duration::from_secs(1) };
    /// Of command-router calls.
    pub(crate) const ROUTER: Self =
        Self { retries: 10, first: Duration::from_millis(10), cap: Duration::from_secs(10) };
    /// Of uploads of blocks and files.
    pub(crate) const UPLOAD: Self =
        Self { retries: 10, first: Duration::from_millis(500), cap: Duration::from_secs(15) };
    /// Of downloads of blocks.
    pub(crate) const DOWNLOAD: Self =
        Self { retries: 4, first: Duration::from_millis(100), cap: Duration::from_secs(5) };
    /// Of calls that upload in one request: fewer and slower.
    pub(crate) const SLOW: Self =
        Self { retries: 3, first: Duration::from_secs(1), cap: Duration::from_secs(5) };

    /// The delay before repetition `n` (from 0), without jitter.
    pub(crate) fn delay(&self, n: u32) -> Duration {
        self.first.saturating_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX)).min(self.cap)
    }

    /// The delay before repetition `n` (from 0), 75 to 125 per cent of [`Self::delay`], so that many
    /// clients do not come back at once.
    pub(crate) fn jittered(&self, n: u32) -> Duration {
        self.delay(n).mul_f64(rand::rng().random_range(0.75..1.25))
    }
}

/// What to do about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    /// Wait, then repeat; one of the policy's retries is used.
    Retry(Duration),
    /// The server asked to wait; that uses no retry.
    Throttled(Duration),
    /// The error is final.
    GiveUp,
}

/// What is left of a call's retries.
#[derive(Debug)]
pub(crate) struct Budget {
    policy: RetryPolicy,
    max_throttle: Option<Duration>,
    throttled: Duration,
    /// Repetitions so far.
    pub(crate) retries: u32,
    /// Waits that the server asked for so far.
    pub(crate) throttles: u32,
}

impl Budget {
    /// `max_throttle`: how long in all the server may make this call wait; `None` is without limit, zero is never.
    pub(crate) fn new(policy: RetryPolicy, max_throttle: Option<Duration>) -> Self {
        Self { policy, max_throttle, throttled: Duration::ZERO, retries: 0, throttles: 0 }
    }

    /// How often the call was sent, the failed attempt that is being judged included.
    pub(crate) fn attempts(&self) -> u32 {
        self.retries + self.throttles + 1
    }

    pub(crate) fn judge(&mut self, status: &Status) -> Verdict {
        if let Some(wait) = retry_after(status) {
            let total = self.throttled + wait;
            if self.max_throttle.is_none_or(|limit| total <= limit) {
                self.throttled = total;
                self.throttles += 1;
                return Verdict::Throttled(wait);
            }
        }
        if is_transient(status.code()) && self.retries < self.policy.retries {
            let delay = self.policy.jittered(self.retries);
            self.retries += 1;
            return Verdict::Retry(delay);
        }
        Verdict::GiveUp
    }
}

/// The statuses after which Modal's own clients repeat a call.
pub(crate) fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::DeadlineExceeded
            | Code::Unavailable
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let delays: Vec<_> = (0..6).map(|n| RetryPolicy::CONTROL.delay(n).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(RetryPolicy::ROUTER.delay(200), Duration::from_secs(10));
    }

    #[test]
    fn a_transient_error_is_retried_three_times_and_a_final_one_never() {
        let mut budget = Budget::new(RetryPolicy::CONTROL, None);
        for _ in 0..3 {
            assert!(matches!(budget.judge(&Status::unavailable("")), Verdict::Retry(_)));
        }
        assert_eq!(budget.judge(&Status::unavailable("")), Verdict::GiveUp);
        assert_eq!(budget.attempts(), 4);
        let mut budget = Budget::new(RetryPolicy::CONTROL, None);
        assert_eq!(budget.judge(&Status::not_found("")), Verdict::GiveUp);
        assert_eq!(budget.judge(&Status::resource_exhausted("")), Verdict::GiveUp);
    }

    #[test]
    fn a_throttle_uses_no_retry_until_its_own_limit_is_reached() {
        let throttled = throttle::tests::status(Code::ResourceExhausted, 2.0);
        let mut budget = Budget::new(RetryPolicy::CONTROL, Some(Duration::from_secs(5)));
        assert_eq!(budget.judge(&throttled), Verdict::Throttled(Duration::from_secs(2)));
        assert_eq!(budget.judge(&throttled), Verdict::Throttled(Duration::from_secs(2)));
        assert_eq!(budget.judge(&throttled), Verdict::GiveUp);
        assert_eq!((budget.retries, budget.throttles), (0, 2));
        let mut off = Budget::new(RetryPolicy::CONTROL, Some(Duration::ZERO));
        assert_eq!(off.judge(&throttled), Verdict::GiveUp);
    }
}
