//! Finds the recording that answers a request, or the nearest one and what differs.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use regex::Regex;

use crate::{
    Error, Result,
    openai::{ChatRequest, Message},
    recording::{Entry, Recording, ToolCall, ToolResult},
    template::{self, Captures},
};

/// All recordings that a server replays.
#[derive(Debug, Clone, Default)]
pub struct Library {
    recordings: Vec<(String, Recording)>,
}

/// What answers a request: an entry of a recording, with the values met on the way.
#[derive(Debug)]
pub(crate) struct Hit<'a> {
    pub(crate) recording: usize,
    /// The position in the conversation of the first entry to answer with.
    pub(crate) position: usize,
    pub(crate) entries: &'a [Entry],
    pub(crate) captures: Captures,
}

/// No recording answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    nearest: Option<Difference>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    recording: String,
    agreed: usize,
    recorded: String,
    requested: String,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(near) = &self.nearest else { return write!(f, "there are no recordings") };
        write!(
            f,
            "no recording answers this request; the nearest, `{}`, differs at message {}:\n  recorded:  {}\n  requested: {}",
            near.recording, near.agreed, near.recorded, near.requested
        )
    }
}

impl Library {
    /// Reads files, and every `*.json` below directories, in order of their names.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut recordings = Vec::new();
        for path in paths {
            let files = files_below(path)?;
            if files.is_empty() {
                return Err(Error::Empty { path: path.clone() });
            }
            for file in files {
                let name = file.strip_prefix(path).ok().filter(|rest| !rest.as_os_str().is_empty());
                let name = name.unwrap_or(&file).display().to_string();
                recordings.push((name, Recording::read(&file)?));
            }
        }
        Ok(Self { recordings })
    }

    /// Recordings by name, for callers that make them in memory.
    pub fn from_recordings(recordings: Vec<(String, Recording)>) -> Self {
        Self { recordings }
    }

    /// The names and recordings, in matching order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Recording)> {
        self.recordings.iter().map(|(name, recording)| (name.as_str(), recording))
    }

    pub(crate) fn find(&self, request: &ChatRequest) -> Result<Hit<'_>, Miss> {
        let mut nearest: Option<Difference> = None;
        for (index, (name, recording)) in self.recordings.iter().enumerate() {
            match compare(name, recording, request) {
                Ok((position, captures)) => {
                    let entries = &recording.conversation[position..];
                    return Ok(Hit { recording: index, position, entries, captures });
                }
                Err(difference) => {
                    let score = |d: &Difference| (d.agreed, likeness(&d.recorded, &d.requested));
                    if nearest.as_ref().is_none_or(|best| score(&difference) > score(best)) {
                        nearest = Some(difference);
                    }
                }
            }
        }
        Err(Miss { nearest })
    }
}

/// How many leading characters two texts share: among equally far matches the likelier one.
fn likeness(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count()
}

fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    if path.metadata().map_err(failed)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        if entry.is_dir() {
            files.extend(files_below(&entry)?);
        } else if entry.extension().is_some_and(|extension| extension == "json") {
            files.push(entry);
        }
    }
    files.sort();
    Ok(files)
}

/// The position of the entry that answers `request`, or the first difference.
fn compare(
    name: &str,
    recording: &Recording,
    request: &ChatRequest,
) -> Result<(usize, Captures), Difference> {
    let differ = |agreed: usize, recorded: String, requested: String| {
        let (recorded, requested) = contrast(&recorded, &requested);
        Difference { recording: name.to_owned(), agreed, recorded, requested }
    };
    if recording.model.as_ref().is_some_and(|model| *model != request.model) {
        let model = recording.model.clone().unwrap_or_default();
        return Err(differ(0, format!("model {model}"), format!("model {}", request.model)));
    }
    let mut captures = Captures::new();
    let mut position = 0;
    for (index, message) in request.conversation().enumerate() {
        while let Some(Entry::Failure(_)) = recording.conversation.get(position) {
            position += 1;
        }
        let entry = recording.conversation.get(position);
        if !entry.is_some_and(|entry| agrees(entry, message, &mut captures)) {
            let recorded = entry.map_or("(the end)".to_owned(), describe_entry);
            return Err(differ(index, recorded, describe_message(message)));
        }
        position += 1;
    }
    match recording.conversation.get(position) {
        Some(Entry::Assistant(_) | Entry::Failure(_)) => Ok((position, captures)),
        Some(entry) => Err(differ(position, describe_entry(entry), "(an answer is wanted)".into())),
        None => Err(differ(position, "(the end)".into(), "(an answer is wanted)".into())),
    }
}

fn agrees(entry: &Entry, message: &Message, captures: &mut Captures) -> bool {
    match (entry, message.role.as_str()) {
        (Entry::User(template), "user") => template::matches(template, &message.text(), captures),
        (Entry::Assistant(answer), "assistant") => {
            let recorded: Vec<ToolCall> = answer
                .tool_calls
                .iter()
                .map(|call| ToolCall {
                    name: call.name.clone(),
                    arguments: template::insert_json(&call.arguments, captures),
                })
                .collect();
            recorded == message.tool_calls()
        }
        (Entry::Tool(result), "tool") => tool_agrees(result, &message.text(), captures),
        _ => false,
    }
}

fn tool_agrees(result: &ToolResult, text: &str, captures: &mut Captures) -> bool {
    let Some(pattern) = &result.matches else { return true };
    let Ok(pattern) = Regex::new(pattern) else { return false };
    pattern.captures(text).is_some_and(|found| template::remember(&pattern, &found, captures))
}

fn describe_entry(entry: &Entry) -> String {
    match entry {
        Entry::User(text) => format!("user: {text}"),
        Entry::Assistant(answer) => describe_assistant(&answer.text, &answer.tool_calls),
        Entry::Tool(ToolResult { matches: Some(pattern), .. }) => {
            format!("tool: a result that matches /{pattern}/")
        }
        Entry::Tool(_) => "tool: any result".to_owned(),
        Entry::Failure(failure) => format!("failure: status {}", failure.status),
    }
}

fn describe_message(message: &Message) -> String {
    match message.role.as_str() {
        "assistant" => describe_assistant(&message.text(), &message.tool_calls()),
        role => format!("{role}: {}", message.text()),
    }
}

fn describe_assistant(text: &str, calls: &[ToolCall]) -> String {
    let calls: Vec<String> =
        calls.iter().map(|call| format!("{}({})", call.name, call.arguments)).collect();
    if calls.is_empty() {
        format!("assistant: {text}")
    } else {
        format!("assistant calls {}", calls.join(", "))
    }
}

/// Two texts, short enough for a message, from a little before they part.
fn contrast(recorded: &str, requested: &str) -> (String, String) {
    const BEFORE: usize = 40;
    let (recorded, requested) = (template::normalise(recorded), template::normalise(requested));
    let shared = likeness(&recorded, &requested);
    let start = if shared > 2 * BEFORE { shared - BEFORE } else { 0 };
    (excerpt(&recorded, start), excerpt(&requested, start))
}

/// At most 300 characters of the text from one on, with marks where some are left out.
fn excerpt(text: &str, start: usize) -> String {
    const MOST: usize = 300;
    let rest: String = text.chars().skip(start).take(MOST).collect();
    let before = if start > 0 { "…" } else { "" };
    let after = if text.chars().nth(start + MOST).is_some() { "…" } else { "" };
    format!("{before}{rest}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_far_inside_is_shown() {
        let (recorded, requested) = ("x ".repeat(200) + "goat", "x ".repeat(200) + "sheep");
        let (recorded, requested) = contrast(&recorded, &requested);
        assert!(recorded.starts_with('…') && recorded.ends_with("x goat"), "{recorded}");
        assert!(requested.ends_with("x sheep"), "{requested}");
        assert_eq!(contrast("a", "b"), ("a".to_owned(), "b".to_owned()));
    }
}
