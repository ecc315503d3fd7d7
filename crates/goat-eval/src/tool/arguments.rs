//! The arguments of a call. Models write numbers and booleans as text now and then; that is understood.

use serde_json::{Map, Value};

use super::ToolError;
use crate::progress::shorten;

/// The arguments of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Reads what the model wrote. Nothing at all means no arguments.
    pub fn parse(text: &str) -> Result<Self, ToolError> {
        if text.trim().is_empty() {
            return Ok(Arguments::default());
        }
        let not_json = |reason: String| ToolError::NotJson { reason, excerpt: shorten(text, 200) };
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Arguments(map)),
            Ok(_) => Err(not_json("they are another kind of value".into())),
            Err(error) => Err(not_json(error.to_string())),
        }
    }

    /// All of them, for tools whose schema is another program's.
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// The argument, if it was given; null counts as not given.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Text, if given.
    pub fn text(&self, name: &'static str) -> Result<Option<String>, ToolError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(ToolError::WrongType { name, expected: "a string" }),
        }
    }

    /// Text that has to be given.
    pub fn required_text(&self, name: &'static str) -> Result<String, ToolError> {
        self.text(name)?.ok_or(ToolError::Missing(name))
    }

    /// A whole number of at least 0, if given.
    pub fn number(&self, name: &'static str) -> Result<Option<u64>, ToolError> {
        let wrong = ToolError::WrongType { name, expected: "a whole number of at least 0" };
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_u64().or_else(|| {
                let float = value.as_f64().filter(|it| *it >= 0.0 && it.fract() == 0.0);
                float.map(|it| it as u64)
            }),
        };
        number.map(Some).ok_or(wrong)
    }

    /// Yes or no; not given means no.
    pub fn flag(&self, name: &'static str) -> Result<bool, ToolError> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }

    /// Yes or no, if given.
    pub fn optional_flag(&self, name: &'static str) -> Result<Option<bool>, ToolError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(ToolError::WrongType { name, expected: "true or false" }),
        }
    }

    /// The argument that tells a person most about the call, for a line of progress.
    pub fn gist(&self) -> String {
        let telling = ["command", "file_path", "pattern", "skill"]
            .iter()
            .find_map(|name| self.get(name)?.as_str());
        telling.map_or_else(|| Value::Object(self.0.clone()).to_string(), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_types_are_understood() {
        let arguments = Arguments::parse(
            r#"{"n": "7", "m": 7.0, "yes": "True", "no": false, "gone": null, "t": "x"}"#,
        )
        .unwrap();
        assert_eq!(arguments.number("n").unwrap(), Some(7));
        assert_eq!(arguments.number("m").unwrap(), Some(7));
        assert!(arguments.flag("yes").unwrap() && !arguments.flag("no").unwrap());
        assert_eq!(arguments.text("gone").unwrap(), None);
        assert_eq!(arguments.required_text("t").unwrap(), "x");
    }

    #[test]
    fn mistakes_are_told() {
        let told = |text| Arguments::parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(told(r#"{"command": "ls"#), @r#"the arguments are not a JSON object (EOF while parsing a string at line 1 column 15): {"command": "ls"#);
        insta::assert_snapshot!(told("[1]"), @"the arguments are not a JSON object (they are another kind of value): [1]");
        let arguments = Arguments::parse(r#"{"n": -1, "t": 3}"#).unwrap();
        insta::assert_snapshot!(arguments.number("n").unwrap_err(), @"parameter `n` must be a whole number of at least 0");
        insta::assert_snapshot!(arguments.text("t").unwrap_err(), @"parameter `t` must be a string");
        insta::assert_snapshot!(arguments.required_text("x").unwrap_err(), @"parameter `x` is required");
        assert_eq!(Arguments::parse(" ").unwrap(), Arguments::default());
    }
}
