//! Pieces of version 2's validation that a type alone does not express.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, value::RawValue};

/// A time with an offset; a date alone is refused, as version 2 does. Cut to milliseconds, which is what is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Time {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("Invalid datetime: `{text}` is not an ISO 8601 time with an offset");
        if text.as_bytes().get(10) != Some(&b'T') {
            return Err(wrong());
        }
        let time: Timestamp = text.parse().map_err(|_| wrong())?;
        Timestamp::from_millisecond(time.as_millisecond()).map(Self).map_err(|_| wrong())
    }

    /// As a column without zone takes it.
    pub(crate) fn column(self) -> String {
        format!("{:.3}", self.0).trim_end_matches('Z').to_owned()
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// A whole number; `10.0` is one, as in JavaScript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole(pub(crate) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(from)?;
        if let Some(whole) = number.as_i64() {
            return Ok(Self(whole));
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Ok(Self(float as i64)),
            _ => Err(D::Error::custom(format!("Expected integer, received {number}"))),
        }
    }
}

/// JSON that is kept as it was written; `null` counts as absent.
#[derive(Debug, Clone)]
pub(crate) struct Json(pub(crate) Box<RawValue>);

pub(crate) fn json<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    let raw = Box::<RawValue>::deserialize(from)?;
    Ok((raw.get() != "null").then_some(Json(raw)))
}

/// JSON that is looked into; `null` counts as absent.
pub(crate) fn value<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    let value = Value::deserialize(from)?;
    Ok((!value.is_null()).then_some(value))
}

/// A model's settings: text, numbers, booleans, lists and records of text.
pub(crate) fn parameters<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    let text = |value: &Value| value.is_string();
    let allowed = |value: &Value| match value {
        Value::Array(values) => values.iter().all(text),
        Value::Object(fields) => fields.values().all(text),
        _ => true,
    };
    let Some(value) = value(from)? else { return Ok(None) };
    let fields = value.as_object().ok_or_else(|| D::Error::custom("Expected object"))?;
    match fields.iter().find(|(_, value)| !allowed(value)) {
        Some((key, _)) => Err(D::Error::custom(format!("Invalid input in modelParameters.{key}"))),
        None => Ok(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_an_offset_and_are_cut_to_milliseconds() {
        let column = |text: &str| Time::parse(text).map(Time::column);
        assert_eq!(column("2026-01-02T03:04:05.678999Z").unwrap(), "2026-01-02T03:04:05.678");
        assert_eq!(column("2026-01-02T03:04:05+02:00").unwrap(), "2026-01-02T01:04:05.000");
        for wrong in ["2026-01-02", "2026-01-02T03:04:05", "yesterday", ""] {
            assert!(column(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn whole_numbers_may_have_a_point() {
        let whole = |text: &str| serde_json::from_str::<Whole>(text).map(|whole| whole.0);
        assert_eq!(whole("10.0").unwrap(), 10);
        assert!(whole("10.5").is_err());
    }
}
