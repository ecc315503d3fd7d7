//! `{{name}}` in recordings: matches any text in a user's message, inserts a value in an answer.
//!
//! A name is a letter or `_`, then letters, digits and `_`; anything else between braces is ordinary text.
//! `\{{name}}` is the text `{{name}}` itself: so the recorder writes what was really said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;
use serde_json::Value;

/// Values remembered while a conversation was matched.
pub(crate) type Captures = BTreeMap<String, String>;

/// A placeholder, with the backslash before it that makes it ordinary text.
static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?<escape>\\)?\{\{(?<name>[A-Za-z_][A-Za-z0-9_]*)\}\}")
        .expect("a constant pattern that tests compile")
});

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
    for group in pattern.capture_names().flatten() {
        let Some(value) = found.name(group) else { continue };
        let name = group.split_once(AGAIN).map_or(group, |(name, _)| name);
        let known = captures.entry(name.to_owned()).or_insert_with(|| value.as_str().to_owned());
        if known != value.as_str() {
            return false;
        }
    }
    true
}

/// `text` with every `{{name}}` replaced by its value; an unknown name stays as it is.
pub(crate) fn insert(text: &str, captures: &Captures) -> String {
    let value = |found: &regex::Captures<'_>| {
        let whole = &found[0];
        match captures.get(&found["name"]) {
            _ if found.name("escape").is_some() => whole[1..].to_owned(),
            Some(value) => value.clone(),
            None => whole.to_owned(),
        }
    };
    PLACEHOLDER.replace_all(text, value).into_owned()
}

/// [`insert`] in every string of a JSON value.
pub(crate) fn insert_json(value: &Value, captures: &Captures) -> Value {
    each_text(value, &|text| insert(text, captures))
}

/// `text` as a template that stands for itself alone.
pub(crate) fn escape(text: &str) -> String {
    PLACEHOLDER.replace_all(text, r"\$0").into_owned()
}

/// [`escape`] in every string of a JSON value.
pub(crate) fn escape_json(value: &Value) -> Value {
    each_text(value, &escape)
}

fn each_text(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| each_text(item, change)).collect())
        }
        Value::Object(fields) => {
            let changed = |(key, item): (&String, &Value)| (key.clone(), each_text(item, change));
            Value::Object(fields.iter().map(changed).collect())
        }
        other => other.clone(),
    }
}

/// `text` with every run of white space made one space.
pub(crate) fn normalise(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Stands in the group of a name that was there before: a pattern can't have a group twice. No name
/// has two of its characters, which a group may have.
const AGAIN: &str = "..";

fn pattern(template: &str) -> Result<Regex, regex::Error> {
    let template = normalise(template);
    let mut source = String::from("(?s)^");
    let mut seen = BTreeSet::new();
    let mut end = 0;
    for found in PLACEHOLDER.captures_iter(&template) {
        let (Some(whole), name) = (found.get(0), &found["name"]) else { continue };
        source.push_str(&regex::escape(&template[end..whole.start()]));
        end = whole.end();
        if found.name("escape").is_some() {
            source.push_str(&regex::escape(&whole.as_str()[1..]));
        } else if seen.insert(name.to_owned()) {
            source.push_str(&format!("(?P<{name}>.+?)"));
        } else {
            source.push_str(&format!("(?P<{name}{AGAIN}{end}>.+?)"));
        }
    }
    source.push_str(&regex::escape(&template[end..]));
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
    fn a_name_may_stand_twice_in_a_message() {
        let template = "{{word}} or not {{word}}";
        assert!(matches(template, "goat or not goat", &mut Captures::new()));
        assert!(!matches(template, "goat or not sheep", &mut Captures::new()));
    }

    #[test]
    fn what_is_no_name_or_is_escaped_stands_for_itself() {
        let text = r"run ${{ github.ref }} and {{x}} and \{{y}}";
        let template = escape(text);
        assert!(matches(&template, text, &mut Captures::new()));
        assert!(!matches(&template, &text.replace("{{x}}", "it"), &mut Captures::new()));
        assert_eq!(insert(&template, &Captures::from([("x".to_owned(), "it".to_owned())])), text);
    }

    #[test]
    fn an_inserted_value_is_not_a_template_itself() {
        let captures = Captures::from([
            ("a".to_owned(), "{{b}}".to_owned()),
            ("b".to_owned(), "no".to_owned()),
        ]);
        assert_eq!(insert("{{a}}", &captures), "{{b}}");
    }
}
