//! Time of day as the files of a run spell it.

/// Now, in UTC, as RFC 3339 with milliseconds.
pub(crate) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_is_utc_with_milliseconds() {
        let now = super::now();
        assert!(now.ends_with('Z') && now.len() == "2026-01-01T00:00:00.000Z".len(), "{now}");
    }
}
