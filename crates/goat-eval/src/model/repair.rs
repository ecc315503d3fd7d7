//! Mends arguments and names of calls where there is one way to understand them.
//!
//! What was done is said in the transcript; what cannot be mended is told to the model.

use serde_json::{Map, Value};

use super::lenient::{self, Liberty};

/// Arguments that are a JSON object now.
#[derive(Clone, Debug, PartialEq)]
pub struct Repaired {
    /// The object as text.
    pub arguments: String,
    /// What was wrong with it.
    pub repairs: Vec<&'static str>,
}

/// Mends arguments. `None`: nothing to mend, or no way to tell what is meant.
///
/// `is_cut` says that the answer reached its token limit: then an object that does not end is not completed.
pub fn arguments(text: &str, is_cut: bool) -> Option<Repaired> {
    if serde_json::from_str::<Map<String, Value>>(text).is_ok() {
        return None;
    }
    if text.trim().is_empty() || matches!(text.trim(), "null" | "None" | "\"\"") {
        return Some(Repaired { arguments: "{}".into(), repairs: vec!["no arguments"] });
    }
    let mut repairs = Vec::new();
    let object = understood(text, is_cut, &mut repairs, 0)?;
    Some(Repaired { arguments: Value::Object(object).to_string(), repairs })
}

fn understood(
    text: &str,
    is_cut: bool,
    repairs: &mut Vec<&'static str>,
    depth: usize,
) -> Option<Map<String, Value>> {
    let inner = without_fence(text.trim());
    if inner.len() < text.trim().len() {
        repairs.push("code fence");
    }
    let (value, liberties, end) = lenient::read(inner)?;
    if is_cut && liberties.contains(&Liberty::MissingBrackets) {
        return None;
    }
    repairs.extend(liberties.into_iter().map(Liberty::describe));
    let rest = inner[end..].trim();
    if !rest.is_empty() {
        repairs.push(surplus(rest, &value)?);
    }
    match value {
        Value::Object(object) => Some(object),
        Value::String(text) if depth < 2 => {
            repairs.push("JSON inside a string");
            understood(&text, is_cut, repairs, depth + 1)
        }
        // `[{…}]`, a list of one.
        Value::Array(mut items) if items.len() == 1 && items[0].is_object() => {
            repairs.push("list of one object");
            items.pop().and_then(|it| it.as_object().cloned())
        }
        _ => None,
    }
}

/// What may follow an object without changing its meaning.
fn surplus(rest: &str, object: &Value) -> Option<&'static str> {
    if rest.chars().all(|c| matches!(c, '}' | ']' | ';' | ',') || c.is_whitespace()) {
        return Some("surplus brackets");
    }
    if rest.starts_with("<|") || rest.starts_with("</") || rest.starts_with("```") {
        return Some("marks of the chat template");
    }
    let (again, _, end) = lenient::read(rest)?;
    (again == *object && rest[end..].trim().is_empty()).then_some("the same object twice")
}

/// The content of a text that is one fenced block.
fn without_fence(text: &str) -> &str {
    let Some(rest) = text.strip_prefix("```") else { return text };
    let Some((_, body)) = rest.split_once('\n') else { return text };
    body.trim_end().strip_suffix("```").map_or(body, str::trim)
}

/// The tool that a model means by a name which is not quite one, if only one can be meant.
///
/// `functions.Bash` and `Bash<|channel|>json` are GPT OSS's, `default_api.Bash` Gemini's; some write small letters.
pub fn name<'n>(given: &str, known: &'n [String]) -> Option<&'n str> {
    let plain = given.split("<|").next().unwrap_or(given);
    let plain = plain.trim_matches(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ':' | '(' | ')')
    });
    let last = plain.rsplit(['.', ':', '/']).next().unwrap_or(plain);
    let exact = known.iter().find(|it| *it == plain || *it == last);
    let same = |it: &str| it.replace('_', "").eq_ignore_ascii_case(&last.replace('_', ""));
    let mut alike = known.iter().filter(|it| same(it));
    let found = exact.or_else(|| alike.next().filter(|_| alike.next().is_none()));
    found.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(text: &str) -> String {
        match arguments(text, false) {
            Some(it) => format!("{} ({})", it.arguments, it.repairs.join(", ")),
            None => "-".into(),
        }
    }

    #[test]
    fn what_means_one_thing_is_mended() {
        let cases = [
            r#"{"command": "ls",}"#,
            "```json\n{\"command\": \"ls\"}\n```",
            "{\"content\": \"a\nb\tc\"}",
            r#""{\"command\": \"ls\"}""#,
            r#""\"{\\\"command\\\": \\\"ls\\\"}\"""#,
            r#"{"command": "ls"}}"#,
            r#"{"command": "ls"}{"command": "ls"}"#,
            r#"{"command": "ls"}<|call|>"#,
            r#"[{"command": "ls"}]"#,
            "{'replace_all': True, 'old_string': \"it's\"}",
            r#"{"pattern": "\d+\.rs"}"#,
            r#"{"command": "ls""#,
            "null",
            " ",
        ];
        insta::assert_snapshot!(cases.map(mended).join("\n"), @r##"
        {"command":"ls"} (trailing comma)
        {"command":"ls"} (code fence)
        {"content":"a\nb\tc"} (unescaped line break or control character)
        {"command":"ls"} (JSON inside a string)
        {"command":"ls"} (JSON inside a string, JSON inside a string)
        {"command":"ls"} (surplus brackets)
        {"command":"ls"} (the same object twice)
        {"command":"ls"} (marks of the chat template)
        {"command":"ls"} (list of one object)
        {"replace_all":true,"old_string":"it's"} (single quotes, True, False or None)
        {"pattern":"\\d+\\.rs"} (backslash before a plain character)
        {"command":"ls"} (missing brackets at the end)
        {} (no arguments)
        {} (no arguments)
        "##);
    }

    #[test]
    fn doubts_and_sound_json_are_left_alone() {
        for text in [
            r#"{"command": "ls"}"#,
            "{}",
            r#"{"command": "ls"#,
            r#"{"command": "ls"}{"command": "rm"}"#,
            r#"{"command": "ls"} and then"#,
            "[1]",
            "[{\"a\": 1}, {\"a\": 2}]",
            "\"ls\"",
            "ls -la",
        ] {
            assert_eq!(mended(text), "-", "{text}");
        }
        assert_eq!(arguments(r#"{"command": "ls""#, true), None);
    }

    #[test]
    fn names_are_understood_where_only_one_tool_can_be_meant() {
        let known = ["Bash", "BashOutput", "Read", "mcp__a__read"].map(str::to_owned);
        for (given, expected) in [
            ("functions.Bash", Some("Bash")),
            ("bash", Some("Bash")),
            ("Bash<|channel|>commentary", Some("Bash")),
            ("bash_output", Some("BashOutput")),
            (" Read\n", Some("Read")),
            ("mcp__a__read", Some("mcp__a__read")),
            ("Fly", None),
            ("", None),
        ] {
            assert_eq!(name(given, &known), expected, "{given}");
        }
    }
}
