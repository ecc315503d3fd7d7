//! When a call is sent again: the error is transient, the call may be repeated, and there is budget left.
//!
//! Decisions are pure; [`crate::rpc`] sleeps and sends. Every unary call carries an idempotency key that all its
//! attempts share, so repeating is safe by the API's contract.
//!
//! Numbers and rules are those of Modal's Python client 1.6.4 (`_utils/grpc_utils.py` and, for routers,
//! `sandbox/_task_command_router_client.py`), but for the jitter of delays:
//! - Five statuses are transient; the control plane gets 3 retries after 0.1, 0.2, 0.4 s, a router 10 from 10 ms doubling.
//! - A server may ask to wait, with any status; a router only with RESOURCE_EXHAUSTED. That uses no retry, and
//!   `MODAL_MAX_THROTTLE_WAIT` seconds limit it: at the control plane the time since the call began, at a router
//!   the waits alone. A wait beyond the limit makes the failure final; a limit of 0 makes it an ordinary one.

mod throttle;

use std::time::Duration;

use rand::Rng;
use tonic::{Code, Status};

use crate::rpc::{CallOptions, Headers};

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
    is_router: bool,
    retries_deadline: bool,
    max_throttle: Option<Duration>,
    throttled: Duration,
    /// Repetitions so far.
    pub(crate) retries: u32,
    /// Waits that the server asked for so far.
    pub(crate) throttles: u32,
}

impl Budget {
    /// `max_throttle`: how long in all the server may make this call wait; `None` is without limit, zero is never.
    pub(crate) fn new(options: &CallOptions, max_throttle: Option<Duration>) -> Self {
        Self {
            policy: options.policy,
            is_router: options.headers == Headers::Router,
            retries_deadline: options.retries_deadline,
            max_throttle,
            throttled: Duration::ZERO,
            retries: 0,
            throttles: 0,
        }
    }

    /// How often the call was sent, the failed attempt that is being judged included.
    pub(crate) fn attempts(&self) -> u32 {
        self.retries + self.throttles + 1
    }

    /// `elapsed`: since the call began.
    pub(crate) fn judge(&mut self, status: &Status, elapsed: Duration) -> Verdict {
        if let Some(wait) = self.wish(status) {
            self.throttled += wait;
            if self.is_beyond_limit(elapsed + wait) {
                return Verdict::GiveUp;
            }
            self.throttles += 1;
            return Verdict::Throttled(wait);
        }
        let is_retried = is_transient(status.code())
            && (self.retries_deadline || status.code() != Code::DeadlineExceeded);
        if is_retried && self.retries < self.policy.retries {
            let delay = self.policy.jittered(self.retries);
            self.retries += 1;
            return Verdict::Retry(delay);
        }
        Verdict::GiveUp
    }

    /// The wait that the server asks for, where it counts.
    fn wish(&self, status: &Status) -> Option<Duration> {
        let is_off = self.max_throttle == Some(Duration::ZERO);
        let is_ignored = self.is_router && status.code() != Code::ResourceExhausted;
        retry_after(status).filter(|_| !is_off && !is_ignored)
    }

    fn is_beyond_limit(&self, since_start: Duration) -> bool {
        match self.max_throttle {
            None => false,
            Some(limit) if self.is_router => self.throttled > limit,
            Some(limit) => since_start >= limit,
        }
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

    fn budget(headers: Headers, max_throttle: Option<u64>, retries_deadline: bool) -> Budget {
        let options = CallOptions {
            operation: crate::Operation::new("try", "it"),
            policy: RetryPolicy::CONTROL,
            headers,
            deadline: None,
            metadata: Default::default(),
            retries_deadline,
        };
        Budget::new(&options, max_throttle.map(Duration::from_secs))
    }

    fn control(max_throttle: Option<u64>) -> Budget {
        budget(Headers::Control, max_throttle, true)
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_transient_error_is_retried_three_times_and_a_final_one_never() {
        let mut budget = control(None);
        for _ in 0..3 {
            assert!(matches!(budget.judge(&Status::unavailable(""), NOW), Verdict::Retry(_)));
        }
        assert_eq!(budget.judge(&Status::unavailable(""), NOW), Verdict::GiveUp);
        assert_eq!(budget.attempts(), 4);
        let mut budget = control(None);
        assert_eq!(budget.judge(&Status::not_found(""), NOW), Verdict::GiveUp);
        assert_eq!(budget.judge(&Status::resource_exhausted(""), NOW), Verdict::GiveUp);
    }

    #[test]
    fn a_poll_that_ran_into_its_deadline_is_not_repeated_here() {
        let late = Status::deadline_exceeded("");
        assert!(matches!(control(None).judge(&late, NOW), Verdict::Retry(_)));
        let mut poll = budget(Headers::Router, None, false);
        assert_eq!(poll.judge(&late, NOW), Verdict::GiveUp);
        assert!(matches!(poll.judge(&Status::unavailable(""), NOW), Verdict::Retry(_)));
    }

    #[test]
    fn a_throttle_uses_no_retry_and_is_final_at_its_limit() {
        let throttled = throttle::tests::status(Code::Unavailable, 2.0);
        let wait = Verdict::Throttled(Duration::from_secs(2));
        let mut budget = control(Some(5));
        assert_eq!(budget.judge(&throttled, NOW), wait);
        assert_eq!(budget.judge(&throttled, Duration::from_secs(2)), wait);
        assert_eq!((budget.retries, budget.throttles), (0, 2));
        assert_eq!(budget.judge(&throttled, Duration::from_secs(3)), Verdict::GiveUp);
        assert!(matches!(control(Some(0)).judge(&throttled, NOW), Verdict::Retry(_)));
    }

    #[test]
    fn a_router_throttles_by_one_status_and_its_waits_alone_count() {
        let mut router = budget(Headers::Router, Some(5), true);
        let other = throttle::tests::status(Code::Unavailable, 2.0);
        assert!(matches!(router.judge(&other, NOW), Verdict::Retry(_)));
        let exhausted = throttle::tests::status(Code::ResourceExhausted, 2.5);
        let late = Duration::from_secs(100);
        for _ in 0..2 {
            let wait = Verdict::Throttled(Duration::from_millis(2500));
            assert_eq!(router.judge(&exhausted, late), wait);
        }
        assert_eq!(router.judge(&exhausted, late), Verdict::GiveUp);
    }
}
