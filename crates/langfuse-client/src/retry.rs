//! When a call is repeated: only if the failure may pass, only if sending it twice does no harm, and only
//! within a budget of attempts and time.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use jiff::Timestamp;
use rand::Rng as _;

/// How often and how long a call is repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included. 1 means never again.
    pub attempts: u32,
    /// Upper bound of the wait before the second attempt; doubles with each further one.
    pub first_wait: Duration,
    /// Upper bound of any wait, also of one that the server asks for: beyond it the call fails at once.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    /// Five attempts, waits of up to 0.25, 0.5, 1 and 2 s, at most 60 s where the server asks for it.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// No second attempt.
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// How long to wait before attempt `next` (2 is the first repetition), or `None` where the call fails now.
    ///
    /// What the server asks for is kept to the full, plus jitter, so that many clients do not return at once.
    pub(crate) fn wait(&self, next: u32, asked: Option<Duration>) -> Option<Duration> {
        if next > self.attempts || asked.is_some_and(|asked| asked > self.longest_wait) {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1 << (next - 2).min(16));
        let bound = doubled.min(self.longest_wait);
        let share = rand::rng().random_range(0.5..=1.0);
        Some(asked.map_or(Duration::ZERO, |asked| asked) + bound.mul_f64(share))
    }
}

/// Whether a request may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resend {
    /// Reads, and writes that name what they write.
    Safe,
    /// Writes that would make a second object: repeated only where the server surely did not take the first.
    OnlyIfRefused,
}

impl Resend {
    /// After this status?
    pub(crate) fn allows_status(self, status: StatusCode) -> bool {
        match status.as_u16() {
            429 => true,
            408 | 500 | 502 | 503 | 504 => self == Self::Safe,
            _ => false,
        }
    }

    /// After this failure to get an answer?
    pub(crate) fn allows_failure(self, error: &reqwest::Error) -> bool {
        match self {
            Self::Safe => !error.is_builder() && !error.is_redirect(),
            Self::OnlyIfRefused => error.is_connect(),
        }
    }
}

/// What `Retry-After` asks for: seconds (version 2 sends fractions) or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        assert_eq!(asks("2"), Some(Duration::from_secs(2)));
        assert_eq!(asks("1.25"), Some(Duration::from_millis(1250)));
        assert_eq!(asks("-3"), Some(Duration::ZERO));
        assert_eq!(asks("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asks("soon"), None);
        assert_eq!(asks("1e400"), None);
    }

    #[test]
    fn waits_are_bounded_and_at_least_what_was_asked() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait(6, None), None);
        assert_eq!(policy.wait(2, Some(Duration::from_secs(61))), None);
        for next in 2..=5 {
            let wait = policy.wait(next, Some(Duration::from_secs(3))).unwrap();
            assert!(wait >= Duration::from_secs(3) && wait <= Duration::from_secs(5), "{wait:?}");
        }
    }

    #[test]
    fn what_would_be_made_twice_is_sent_again_only_after_a_refusal() {
        let statuses =
            [429, 503, 500, 502, 504, 400].map(|code| StatusCode::from_u16(code).unwrap());
        let allowed = |resend: Resend| statuses.map(|status| resend.allows_status(status));
        assert_eq!(allowed(Resend::Safe), [true, true, true, true, true, false]);
        assert_eq!(allowed(Resend::OnlyIfRefused), [true, false, false, false, false, false]);
    }
}
