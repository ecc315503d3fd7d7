//! Files of tasks: a JSON array of objects.
//!
//! ```json
//! [{"id": "grep-search", "prompt": "Which file holds {{nonce}}?", "max_turns": 8, "timeout": 120,
//!   "setup": {"files": {"a.txt": "nothing", "b.txt": "goat {{nonce}}"}},
//!   "verify": {"command": "test -f b.txt", "timeout": 30, "answer_contains": "b.txt"}}]
//! ```
//!
//! Only `prompt` is required. A task without `id` is `task-<n>`, n its position from 0. Times are
//! seconds. `{{nonce}}` stands for a random value, another one in every trial. Unknown keys of a
//! task are ignored, since other tools have their own; in `setup` and `verify` they are errors,
//! since a mistyped check would check nothing.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Component, Path},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error, Result,
    task::{Check, Task},
};

/// How long a check may take that does not say it.
const CHECK_TIMEOUT: f64 = 60.0;
/// Longest time of a task: a day, Modal's limit for a sandbox.
const LONGEST: f64 = 86_400.0;

#[derive(Deserialize)]
#[serde(expecting = "an object with a `prompt`")]
struct RawTask {
    id: Option<String>,
    prompt: String,
    max_turns: Option<u32>,
    timeout: Option<f64>,
    setup: Option<RawSetup>,
    verify: Option<RawVerify>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSetup {
    #[serde(default)]
    files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVerify {
    command: Option<String>,
    answer_contains: Option<String>,
    timeout: Option<f64>,
}

/// Reads a file of tasks.
pub fn read(path: &Path) -> Result<Vec<Task>> {
    let bytes = std::fs::read(path)
        .map_err(|source| Error::ReadBenchmark { path: path.to_owned(), source })?;
    parse(path, &bytes)
}

/// Parses a file of tasks; `path` is for messages alone.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Task>> {
    let values: Vec<Value> = serde_json::from_slice(bytes)
        .map_err(|source| Error::NotABenchmark { path: path.to_owned(), source })?;
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

fn task(position: usize, value: Value) -> Result<Task, String> {
    let raw: RawTask = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let id = raw.id.unwrap_or_else(|| format!("task-{position}"));
    let id = id.parse().map_err(|error: eval_types::InvalidId| error.to_string())?;
    if raw.prompt.trim().is_empty() {
        return Err("its prompt is empty".to_owned());
    }
    if raw.max_turns == Some(0) {
        return Err("max_turns must be at least 1".to_owned());
    }
    let timeout = raw.timeout.map(|time| seconds("timeout", time)).transpose()?;
    let files = raw.setup.map(|setup| setup.files).unwrap_or_default();
    files.keys().try_for_each(|path| stays_inside(path))?;
    let checks = raw.verify.map(checks).transpose()?.unwrap_or_default();
    Ok(Task { id, prompt: raw.prompt, max_turns: raw.max_turns, timeout, files, checks })
}

fn checks(raw: RawVerify) -> Result<Vec<Check>, String> {
    let timeout = seconds("verify.timeout", raw.timeout.unwrap_or(CHECK_TIMEOUT))?;
    let command = raw.command.map(|command| Check::Command { command, timeout });
    let answer = raw.answer_contains.map(Check::AnswerContains);
    let checks: Vec<Check> = command.into_iter().chain(answer).collect();
    if checks.is_empty() {
        return Err("verify needs `command` or `answer_contains`".to_owned());
    }
    Ok(checks)
}

fn seconds(name: &str, value: f64) -> Result<Duration, String> {
    if value > 0.0 && value <= LONGEST {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(format!("{name} must be more than 0 and at most {LONGEST} seconds"))
    }
}

fn stays_inside(path: &str) -> Result<(), String> {
    let plain = |part| matches!(part, Component::Normal(_));
    if !path.is_empty() && Path::new(path).components().all(plain) {
        Ok(())
    } else {
        Err(format!("`{path}` is no path inside the workspace"))
    }
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
        ];
        let said: Vec<_> = cases.iter().map(|text| parsed(text).unwrap_err().chain()).collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(crate::task::nonce().unwrap(), crate::task::nonce().unwrap());
    }
}
