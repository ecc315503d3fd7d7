//! Calls between marks.

use serde_json::{Map, Value};

use super::call_of;
use crate::model::lenient;

type Calls = Vec<(String, String)>;

/// How one family marks a call: what opens it, what closes it, and how its inside is read.
struct Mark {
    open: &'static str,
    /// Any of these, or the end of the text: models that stop at a mark do not write it.
    close: &'static [&'static str],
    read: fn(&str) -> Option<Calls>,
}

const MARKS: [Mark; 7] = [
    Mark { open: "<tool_call>", close: &["</tool_call>"], read: tool_call },
    Mark { open: "<|python_tag|>", close: &["<|eom_id|>", "<|eot_id|>"], read: objects },
    Mark { open: "[TOOL_CALLS]", close: &["[TOOL_CALLS]", "</s>"], read: mistral },
    Mark {
        open: "<｜tool▁call▁begin｜>", close: &["<｜tool▁call▁end｜>"], read: deepseek
    },
    Mark { open: "<function_calls>", close: &["</function_calls>"], read: invokes },
    Mark { open: "<invoke ", close: &["</invoke>"], read: invoke_inside },
    Mark { open: "<function=", close: &["</function>"], read: function_inside },
];

/// The text without its calls, and the calls; `None` where there is none that can be read. What stands in a code
/// block is shown, not called.
pub(super) fn find(text: &str) -> Option<(String, Calls)> {
    let mark = MARKS
        .iter()
        .filter_map(|mark| Some((outside_fences(text, mark.open)?, mark)))
        .min_by_key(|(at, _)| *at);
    let (start, mark) = mark?;
    let mut calls = Calls::new();
    let mut rest = &text[start..];
    while let Some(at) = rest.find(mark.open) {
        let inside = &rest[at + mark.open.len()..];
        let end = mark.close.iter().filter_map(|close| inside.find(close)).min();
        let (content, tail) = inside.split_at(end.unwrap_or(inside.len()));
        calls.extend((mark.read)(content.trim())?);
        let closed = mark.close.iter().find_map(|close| tail.strip_prefix(close));
        rest = if mark.close.contains(&mark.open) { tail } else { closed.unwrap_or(tail) };
    }
    let before = text[..start].trim_end().trim_end_matches("<｜tool▁calls▁begin｜>").trim_end();
    (!calls.is_empty()).then(|| (before.to_owned(), calls))
}

/// Where `mark` first stands outside a fenced block and outside of backticks.
fn outside_fences(text: &str, mark: &str) -> Option<usize> {
    text.match_indices(mark).take(super::MOST).map(|(at, _)| at).find(|at| {
        let before = &text[..*at];
        let line = before.rsplit('\n').next().unwrap_or_default();
        before.matches("```").count().is_multiple_of(2)
            && line.replace("```", "").matches('`').count().is_multiple_of(2)
    })
}

/// Hermes and Qwen: an object. Qwen Coder: `<function=…>`. GLM: a name and tags.
fn tool_call(inside: &str) -> Option<Calls> {
    if inside.starts_with(['{', '[', '`']) {
        return objects(inside.trim_start_matches("```json").trim_matches('`'));
    }
    if let Some(function) = inside.strip_prefix("<function=") {
        return function_inside(function);
    }
    glm(inside)
}

fn glm(inside: &str) -> Option<Calls> {
    let (name, mut rest) = inside.split_once("<arg_key>").unwrap_or((inside, ""));
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    let mut arguments = Map::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("</arg_key>")?;
        let (value, after) = after.split_once("<arg_value>")?.1.split_once("</arg_value>")?;
        arguments.insert(key.trim().to_owned(), plain_value(value));
        rest = after.split_once("<arg_key>").map_or("", |(_, rest)| rest);
    }
    // A bare word between the tags calls nothing; without an argument it must look like a name.
    Some(vec![(name.to_owned(), Value::Object(arguments).to_string())])
}

/// One object after the other, with `;`, commas or space between them.
fn objects(inside: &str) -> Option<Calls> {
    let mut rest = inside.trim();
    let mut calls = Calls::new();
    while rest.starts_with(['{', '[']) {
        let (value, _, end) = lenient::read(rest)?;
        match value {
            Value::Array(items) => {
                for item in &items {
                    calls.push(call_of(item)?);
                }
            }
            value => calls.push(call_of(&value)?),
        }
        rest = rest[end..]
            .trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ';' | ',' | '}'));
    }
    (!calls.is_empty()).then_some(calls)
}

/// `[{…}]`, or `NAME[ARGS]{…}`.
fn mistral(inside: &str) -> Option<Calls> {
    match inside.split_once("[ARGS]") {
        Some((name, arguments)) => {
            Some(vec![(name.trim().to_owned(), arguments.trim().to_owned())])
        }
        None => objects(inside),
    }
}

/// `function<｜tool▁sep｜>NAME`, then the arguments, fenced or not.
fn deepseek(inside: &str) -> Option<Calls> {
    let (name, arguments) = match inside.split_once("<｜tool▁sep｜>")? {
        ("function", rest) => rest.split_once('\n')?,
        named => named,
    };
    let arguments = arguments.trim().trim_start_matches("```json").trim_matches('`');
    Some(vec![(name.trim().to_owned(), arguments.trim().to_owned())])
}

fn invokes(inside: &str) -> Option<Calls> {
    let parts = inside.split("<invoke ").skip(1);
    let calls: Option<Vec<Calls>> =
        parts.map(|part| invoke_inside(part.split("</invoke>").next().unwrap_or(part))).collect();
    Some(calls?.into_iter().flatten().collect())
}

/// What follows `<invoke `: `name="NAME">`, then parameters.
fn invoke_inside(inside: &str) -> Option<Calls> {
    let (name, rest) = inside.trim_start().strip_prefix("name=\"")?.split_once("\">")?;
    let mut arguments = Map::new();
    for part in rest.split("<parameter name=\"").skip(1) {
        let (key, value) = part.split_once("\">")?;
        let value = value.split("</parameter>").next().unwrap_or(value);
        arguments.insert(key.to_owned(), plain_value(value));
    }
    Some(vec![(name.to_owned(), Value::Object(arguments).to_string())])
}

/// What follows `<function=`: `NAME>`, then an object or `<parameter=KEY>` tags.
fn function_inside(inside: &str) -> Option<Calls> {
    let (name, rest) = inside.split_once(['>', '{'])?;
    let rest = &inside[name.len()..rest.len() + name.len() + 1];
    let rest = rest.strip_prefix('>').unwrap_or(rest).trim();
    let rest = rest.trim_end_matches("</function>").trim_end();
    if rest.starts_with('{') {
        return Some(vec![(name.trim().to_owned(), rest.to_owned())]);
    }
    let mut arguments = Map::new();
    for part in rest.split("<parameter=").skip(1) {
        let (key, value) = part.split_once('>')?;
        let value = value.split("</parameter>").next().unwrap_or(value);
        arguments.insert(key.trim().to_owned(), plain_value(value));
    }
    Some(vec![(name.trim().to_owned(), Value::Object(arguments).to_string())])
}

/// A value between tags is text; tools read numbers and booleans from text. The line breaks next to the tags are
/// the format's.
fn plain_value(value: &str) -> Value {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value).into()
}
