//! `{{name}}` in recordings: matches any text in a user's message, inserts a value in an answer.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// Values remembered while a conversation was matched.
pub(crate) type Captures = BTreeMap<String, String>;

/// What is wrong with a text as a template, if anything.
pub(crate) fn problem(text: &str) -> Option<String> {
    pattern(text).err().map(|error| error.to_string())
}

/// Matches `text` against `template`, white space aside, adding what the names stood for.
pub(crate) fn matches(template: &str, text: &str, captures: &mut Captures) -> bool {
    let Ok(pattern) = pattern(template) else { return false };
    let text = normalise(text);
    let Some(found) = pattern.captures(&text) else { return false };
    remember(&pattern, &found, captures)
}

/// Adds the named groups of a match; false where a name already stands for something else.
pub(crate) fn remember(
    pattern: &Regex,
    found: &regex::Captures<'_>,
    captures: &mut Captures,
) -> bool {
    for name in pattern.capture_names().flatten() {
        let Some(value) = found.name(name) else { continue };
        let known = captures.entry(name.to_owned()).or_insert_with(|| value.as_str().to_owned());
        if known != value.as_str() {
            return false;
        }
    }
    true
}

/// `text` with every `{{name}}` replaced by its value; an unknown name stays as it is.
pub(crate) fn insert(text: &str, captures: &Captures) -> String {
    let mut result = text.to_owned();
    for (name, value) in captures {
        result = result.replace(&format!("{{{{{name}}}}}"), value);
    }
    result
}

/// [`insert`] in every string of a JSON value.
pub(crate) fn insert_json(value: &Value, captures: &Captures) -> Value {
    match value {
        Value::String(text) => Value::String(insert(text, captures)),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| insert_json(item, captures)).collect())
        }
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(key, item)| (key.clone(), insert_json(item, captures))).collect(),
        ),
        other => other.clone(),
    }
}

/// `text` with every run of white space made one space.
pub(crate) fn normalise(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn pattern(template: &str) -> Result<Regex, regex::Error> {
    let template = normalise(template);
    let mut source = String::from("(?s)^");
    let mut rest = template.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, tail)) = after.split_once("}}") else { break };
        source.push_str(&regex::escape(before));
        source.push_str(&format!("(?P<{name}>.+?)"));
        rest = tail;
    }
    source.push_str(&regex::escape(rest));
    source.push('$');
    Regex::new(&source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_any_text_and_is_inserted_again() {
        let mut captures = Captures::new();
        assert!(matches("find {{word}} in  {{file}}", "find goat\nin a.txt", &mut captures));
        assert_eq!(
            insert("{{word}} is in {{file}}, {{other}}", &captures),
            "goat is in a.txt, {{other}}"
        );
    }

    #[test]
    fn a_name_stands_for_one_value() {
        let mut captures = Captures::from([("word".to_owned(), "sheep".to_owned())]);
        assert!(!matches("find {{word}}", "find goat", &mut captures));
    }

    #[test]
    fn text_with_regex_characters_is_literal() {
        assert!(matches("17 * 23 (a.b)?", "17 * 23 (a.b)?", &mut Captures::new()));
        assert!(!matches("a.b", "axb", &mut Captures::new()));
    }

    #[test]
    fn a_name_that_is_no_identifier_is_reported() {
        assert!(problem("{{not a name}}").is_some());
    }
}
