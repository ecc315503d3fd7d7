//! Wall-clock times as the API writes them: seconds since 1970, with a fraction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in seconds.
pub(crate) fn now() -> f64 {
    micros() as f64 / 1e6
}

/// Now, in seconds, and later than every earlier answer of this function.
///
/// Lists are paged by creation time with a strict comparison, so two objects must not share one.
pub(crate) fn unique_now() -> f64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = micros();
    let next = |last: u64| Some(now.max(last + 1));
    let last = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).unwrap_or(now);
    now.max(last + 1) as f64 / 1e6
}

/// `seconds` as a protobuf timestamp.
pub(crate) fn timestamp(seconds: f64) -> prost_types::Timestamp {
    let whole = seconds.floor();
    let nanos = ((seconds - whole) * 1e9) as i32;
    prost_types::Timestamp { seconds: whole as i64, nanos: nanos.clamp(0, 999_999_999) }
}

/// A protobuf timestamp in seconds.
pub(crate) fn seconds(timestamp: &prost_types::Timestamp) -> f64 {
    timestamp.seconds as f64 + f64::from(timestamp.nanos) / 1e9
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_times_are_strictly_increasing() {
        let times: Vec<f64> = (0..1_000).map(|_| unique_now()).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn timestamps_survive_the_trip() {
        let there = 1_700_000_000.25;
        assert_eq!(seconds(&timestamp(there)), there);
    }
}
