//! Files of tasks: a JSON array of objects.
//!
//! ```json
//! [{"id": "grep-search", "prompt": "Which file holds {{nonce}}?", "max_turns": 8, "timeout": 120,
//!   "network": "llm",
//!   "setup": {"files": {"a.txt": "nothing", "b.txt": "goat {{nonce}}"}},
//!   "verify": {"command": "test -f b.txt", "timeout": 30, "answer_contains": "b.txt"}}]
//! ```
//!
//! Only `prompt` is required. A task without `id` is `task-<n>`, n its position from 0. Times are
//! seconds. `network` can only narrow the run's. `{{nonce}}` stands for a random value, another one in every trial. Unknown keys of a
//! task are ignored, since other tools have their own; in `setup` and `verify` they are errors,
//! since a mistyped check would check nothing.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::de::Error as _;
use serde_json::Value;

use self::fields::Fields;
use crate::{
    Error, Result,
    task::{Check, Task},
};

mod fields;

/// How long a check may take that does not say it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// Some editors begin a file with it (Unicode 16, section 23.8).
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads a file of tasks.
pub fn read(path: &Path) -> Result<Vec<Task>> {
    let bytes = std::fs::read(path)
        .map_err(|source| Error::ReadBenchmark { path: path.to_owned(), source })?;
    parse(path, &bytes)
}

/// Parses a file of tasks; `path` is for messages alone.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Task>> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let values =
        array(bytes).map_err(|source| Error::NotABenchmark { path: path.to_owned(), source })?;
    let mut seen = HashSet::new();
    let mut tasks = Vec::with_capacity(values.len());
    for (position, value) in values.into_iter().enumerate() {
        let bad = |reason| Error::BadTask { path: path.to_owned(), position: position + 1, reason };
        let task = task(position, value).map_err(bad)?;
        if !seen.insert(task.id.clone()) {
            return Err(bad(format!("another task is called `{}` too", task.id)));
        }
        tasks.push(task);
    }
    if tasks.is_empty() {
        return Err(Error::NoTasks { path: path.to_owned() });
    }
    Ok(tasks)
}

fn array(bytes: &[u8]) -> serde_json::Result<Vec<Value>> {
    match serde_json::from_slice(bytes)? {
        Value::Array(values) => Ok(values),
        Value::Object(_) => Err(serde_json::Error::custom("it is an object")),
        _ => Err(serde_json::Error::custom("it is a single value")),
    }
}

fn task(position: usize, value: Value) -> Result<Task, String> {
    let fields = Fields::of("a task", value)?;
    let id = fields.text("id")?.unwrap_or_else(|| format!("task-{position}"));
    let id = id.parse().map_err(|error: eval_types::InvalidId| error.to_string())?;
    let prompt = fields.text("prompt")?.ok_or("it has no `prompt`")?;
    if prompt.trim().is_empty() {
        return Err("its prompt is empty".to_owned());
    }
    let max_turns = fields.whole("max_turns")?;
    let timeout = fields.seconds("timeout")?;
    let network = fields.text("network")?.map(|text| text.parse()).transpose()?;
    let files = fields.object("setup")?.map(files).transpose()?.unwrap_or_default();
    let checks = fields.object("verify")?.map(checks).transpose()?.unwrap_or_default();
    Ok(Task { id, prompt, max_turns, timeout, network, files, checks })
}

fn files(setup: Fields) -> Result<BTreeMap<String, String>, String> {
    setup.knows_only(&["files"])?;
    let Some(files) = setup.object("files")? else { return Ok(BTreeMap::new()) };
    let mut texts = BTreeMap::new();
    for path in files.names() {
        stays_inside(path)?;
        texts.insert(path.to_owned(), files.text(path)?.unwrap_or_default());
    }
    lie_beside_each_other(&texts)?;
    Ok(texts)
}

fn checks(verify: Fields) -> Result<Vec<Check>, String> {
    verify.knows_only(&["command", "answer_contains", "timeout"])?;
    let timeout = verify.seconds("timeout")?.unwrap_or(CHECK_TIMEOUT);
    let command = verify.text("command")?.map(|command| Check::Command { command, timeout });
    let answer = verify.text("answer_contains")?.map(Check::AnswerContains);
    let checks: Vec<Check> = command.into_iter().chain(answer).collect();
    if checks.is_empty() {
        return Err("verify needs `command` or `answer_contains`".to_owned());
    }
    Ok(checks)
}

fn stays_inside(path: &str) -> Result<(), String> {
    // What Linux takes (limits.h: NAME_MAX, PATH_MAX), with room for the workspace and a nonce.
    const LONGEST_NAME: usize = 240;
    const LONGEST_PATH: usize = 3_900;
    let plain = |part| matches!(part, Component::Normal(name) if name.len() <= LONGEST_NAME);
    let is_file = !path.is_empty() && !path.ends_with('/') && path.len() <= LONGEST_PATH;
    if is_file && Path::new(path).components().all(plain) {
        Ok(())
    } else {
        Err(format!("`{path}` is no path of a file inside the workspace"))
    }
}

/// Two files can't have one path, and none can be a directory of another.
fn lie_beside_each_other(files: &BTreeMap<String, String>) -> Result<(), String> {
    let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for name in files.keys() {
        let path: PathBuf = Path::new(name).components().collect();
        if let Some(other) = seen.insert(path, name) {
            return Err(format!("setup has one file twice, as `{other}` and as `{name}`"));
        }
    }
    for (path, name) in &seen {
        if let Some(other) = path.ancestors().skip(1).find_map(|above| seen.get(above)) {
            return Err(format!("`{other}` can't be a file and the directory of `{name}`"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Task>> {
        parse(Path::new("b.json"), text.as_bytes())
    }

    #[test]
    fn the_example_of_the_module_is_understood() {
        let tasks = parsed(
            r#"[{"id": "grep-search", "prompt": "Which file holds {{nonce}}?", "max_turns": 8,
                 "timeout": 120, "category": "ignored",
                 "setup": {"files": {"b.txt": "goat {{nonce}}"}},
                 "verify": {"command": "grep {{nonce}} b.txt", "answer_contains": "{{nonce}}"}},
                {"prompt": "Hello"}]"#,
        )
        .unwrap();
        let filled = tasks[0].with_nonce("n1");
        assert_eq!(filled.prompt, "Which file holds n1?");
        assert_eq!(filled.files["b.txt"], "goat n1");
        let timeout = Duration::from_secs(60);
        let command = "grep n1 b.txt".to_owned();
        let answer = Check::AnswerContains("n1".into());
        assert_eq!(filled.checks, [Check::Command { command, timeout }, answer]);
        assert_eq!(tasks[1].id.as_str(), "task-1");
    }

    #[test]
    fn mistakes_are_named_with_their_task() {
        let cases = [
            "{}",
            "[]",
            "[1]",
            r#"[{"prompt": "x"}, {"promt": "y"}]"#,
            r#"[{"prompt": " "}]"#,
            r#"[{"prompt": "x", "id": "../x"}]"#,
            r#"[{"prompt": "x", "id": "a"}, {"prompt": "y", "id": "a"}]"#,
            r#"[{"prompt": "x", "max_turns": 0}]"#,
            r#"[{"prompt": "x", "timeout": -1}]"#,
            r#"[{"prompt": "x", "verify": {"comand": "true"}}]"#,
            r#"[{"prompt": "x", "verify": {}}]"#,
            r#"[{"prompt": "x", "setup": {"files": {"/etc/passwd": ""}}}]"#,
            r#"[{"prompt": "x", "setup": {"files": {"a/../../b": ""}}}]"#,
            r#"[{"prompt": "x", "setup": {"files": {"a": "", "a-b": "", "a/b": ""}}}]"#,
            r#"[{"prompt": "x", "setup": {"files": {"a/b": "", "a//b": ""}}}]"#,
            r#"[{"prompt": "x", "setup": {"files": {"a": 1}}}]"#,
            r#"[{"prompt": "x", "setup": {"files": ["a"]}}]"#,
            r#"[{"prompt": "x", "setup": {"file": {}}}]"#,
            r#"[{"prompt": "x\u0000y"}]"#,
            r#"[{"prompt": ["x"]}]"#,
            r#"[{"prompt": "x", "verify": "true"}]"#,
            r#"[{"prompt": "x", "verify": {"command": "true\u0000"}}]"#,
            r#"[{"prompt": "x", "max_turns": "5"}]"#,
            r#"[{"prompt": "x", "max_turns": 2.5}]"#,
            r#"[{"prompt": "x", "timeout": "soon"}]"#,
            r#"[{"prompt": "x", "network": "a..b"}]"#,
        ];
        let said: Vec<_> = cases.iter().map(|text| parsed(text).unwrap_err().chain()).collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn a_byte_order_mark_is_no_mistake() {
        assert_eq!(parsed("\u{feff}[{\"prompt\": \"x\"}]").unwrap().len(), 1);
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(crate::task::nonce().unwrap(), crate::task::nonce().unwrap());
    }
}
