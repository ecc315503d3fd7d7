//! Wall-clock time, as Modal's API counts it: seconds since 1970, with a fraction.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The time `seconds` after 1970; zero and nonsense are `None`, since Modal leaves unknown times at zero.
pub(crate) fn from_unix(seconds: f64) -> Option<SystemTime> {
    let since = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    if since.is_zero() { None } else { UNIX_EPOCH.checked_add(since) }
}
