//! The fields of a JSON object, read one by one so that a mistake is told by the field's name.

use std::time::Duration;

use serde_json::{Map, Value};

/// Longest text of a wrong value that a message shows.
const SHOWN: usize = 60;

/// An object of the file.
pub(super) struct Fields {
    /// What it is, for messages.
    what: String,
    values: Map<String, Value>,
}

impl Fields {
    /// The fields of an object; anything else is a mistake.
    pub(super) fn of(what: &str, value: Value) -> Result<Self, String> {
        match value {
            Value::Object(values) => Ok(Self { what: what.to_owned(), values }),
            other => Err(wrong(what, "an object", &other)),
        }
    }

    /// The names that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Refuses names that mean nothing here: a mistyped check would check nothing.
    pub(super) fn knows_only(&self, known: &[&str]) -> Result<(), String> {
        let Some(name) = self.names().find(|name| !known.contains(name)) else { return Ok(()) };
        let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
        Err(format!("{} knows no `{name}`, only {}", self.what, known.join(", ")))
    }

    /// A text that programs can be given.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.contains('\0') => {
                Err(format!("`{name}` holds a NUL character, which no program can be given"))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(&format!("`{name}`"), "a text", other)),
        }
    }

    /// A whole number from 1.
    pub(super) fn whole(&self, name: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if number > 0 => Ok(Some(number)),
            _ => Err(wrong(&format!("`{name}`"), "a whole number from 1", value)),
        }
    }

    /// A time in seconds.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let time = value.as_f64().filter(|seconds| *seconds > 0.0);
        let time = time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map(Some)
            .ok_or_else(|| wrong(&format!("`{name}`"), "a number of seconds above 0", value))
    }

    /// An object in it.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, String> {
        self.get(name).map(|value| Self::of(&format!("`{name}`"), value.clone())).transpose()
    }

    /// A value; `null` is as if it were not there.
    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }
}

fn wrong(what: &str, wanted: &str, value: &Value) -> String {
    let mut shown = value.to_string();
    if shown.chars().count() > SHOWN {
        shown = format!("{}…", shown.chars().take(SHOWN).collect::<String>());
    }
    format!("{what} must be {wanted}, and is {shown}")
}
