//! When a failed request is made again, and after how long.

use std::time::Duration;

/// Attempts for one answer.
pub const ATTEMPTS: u32 = 4;

/// The wait before the second attempt; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// A server that asks for a longer pause than this does not get it.
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// Whether the same request may succeed later. 408 and 504 are what gateways say for a slow upstream.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 529)
}

/// The wait after failed attempt number `attempt` (from 1).
///
/// What the server asks for counts; otherwise the doubled delay, of which between half and all is taken
/// (`chance` is from 0 to 1), so that many agents do not come back at the same moment.
pub(crate) fn delay(attempt: u32, retry_after: Option<Duration>, chance: f64) -> Duration {
    let full = FIRST_DELAY * 2u32.saturating_pow(attempt.saturating_sub(1));
    retry_after.unwrap_or_else(|| full.mul_f64(0.5 + chance / 2.0)).min(LONGEST_DELAY)
}

/// Reads `Retry-After`: seconds, or a date.
pub(crate) fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// A number from 0 to 1, good enough to spread retries: the standard library seeds its hash maps at random.
pub(crate) fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(std::process::id());
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_spread() {
        let waits = |chance| [1, 2, 3].map(|attempt| delay(attempt, None, chance).as_millis());
        assert_eq!(waits(0.0), [250, 500, 1000]);
        assert_eq!(waits(1.0), [500, 1000, 2000]);
        assert!((0.0..=1.0).contains(&chance()));
    }

    #[test]
    fn the_server_decides_within_reason() {
        assert_eq!(delay(3, Some(Duration::ZERO), 1.0), Duration::ZERO);
        assert_eq!(delay(1, Some(Duration::from_secs(9999)), 1.0), LONGEST_DELAY);
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(retry_after("2", now), Some(Duration::from_secs(2)));
        assert_eq!(retry_after("Fri, 02 Jan 2026 03:04:08 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Fri, 02 Jan 2026 03:04:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
