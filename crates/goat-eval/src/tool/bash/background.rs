//! The tools BashOutput and KillShell: what background commands print, and their end.

use std::{
    io::{Read, Seek, SeekFrom},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use grep_regex::RegexMatcher;
use serde_json::json;

use super::{Processes, processes::Job};
use crate::tool::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec,
    text::{LONGEST_RESULT, cut_middle, fold_repeats},
};

/// Time that a command gets to end by itself when it is asked to.
const GRACE: Duration = Duration::from_millis(1_000);

/// Bytes of new output that are looked at.
const MOST: u64 = 4 << 20;

/// Shows what a background command has printed since the last time.
#[derive(Debug)]
pub(crate) struct BashOutput {
    processes: Arc<Processes>,
}

/// Ends a background command.
#[derive(Debug)]
pub(crate) struct KillShell {
    processes: Arc<Processes>,
}

impl BashOutput {
    pub(crate) fn new(processes: Arc<Processes>) -> Self {
        BashOutput { processes }
    }
}

impl KillShell {
    pub(crate) fn new(processes: Arc<Processes>) -> Self {
        KillShell { processes }
    }
}

/// The id under either of the names that models know.
fn wanted(arguments: &Arguments) -> Result<String, ToolError> {
    for name in ["bash_id", "shell_id"] {
        if let Some(id) = arguments.text(name)? {
            return Ok(id);
        }
    }
    Err(ToolError::Missing("bash_id"))
}

#[async_trait]
impl Tool for BashOutput {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "BashOutput".into(),
            description: "Shows what a background command has printed since the last look, and whether it still runs. \
                          With `filter`, only lines that match the regular expression; the others are skipped for good."
                .into(),
            brief: "Shows the new output of a background command.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "bash_id": {"type": "string", "description": "Id that Bash gave, such as bash_1"},
                    "filter": {"type": "string", "description": "Regular expression for lines"},
                },
                "required": ["bash_id"],
            }),
            read_only: false,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let id = wanted(&arguments)?;
        let filter = arguments.text("filter")?.filter(|it| !it.is_empty());
        let filter = filter.map(|it| RegexMatcher::new_line_matcher(&it)).transpose();
        let filter = filter.map_err(|error| ToolError::Failed(format!("bad filter: {error}")))?;
        let job = self.processes.job(&id)?;
        let state =
            job.status().map_or("[still running]".to_owned(), |it| format!("[ended: {it}]"));
        let new = self.unread(&id, &job).map_err(ToolError::io("read", &job.log))?;
        let lines = new.lines().filter(|line| filter.as_ref().is_none_or(|it| matches(it, line)));
        let mut text: String = lines.map(|line| format!("{line}\n")).collect();
        text = cut_middle(&fold_repeats(&text), LONGEST_RESULT);
        if text.is_empty() {
            text.push_str("[no new output]\n");
        } else if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(ToolOutput::ok(text + &state))
    }
}

impl BashOutput {
    fn unread(&self, id: &str, job: &Job) -> std::io::Result<String> {
        let mut file = std::fs::File::open(&job.log)?;
        file.seek(SeekFrom::Start(job.read))?;
        let mut bytes = Vec::new();
        let count = file.take(MOST).read_to_end(&mut bytes)?;
        self.processes.have_read(id, job.read + count as u64);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn matches(filter: &RegexMatcher, line: &str) -> bool {
    use grep_matcher::Matcher;
    filter.is_match(line.as_bytes()).unwrap_or(false)
}

#[async_trait]
impl Tool for KillShell {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "KillShell".into(),
            description: "Ends a background command with everything it started. What it has printed can still be read \
                          with BashOutput."
                .into(),
            brief: "Ends a background command.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "shell_id": {"type": "string", "description": "Id that Bash gave, such as bash_1"},
                },
                "required": ["shell_id"],
            }),
            read_only: false,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let id = wanted(&arguments)?;
        let job = self.processes.job(&id)?;
        if let Some(status) = job.status() {
            return Ok(ToolOutput::ok(format!("{id} had already ended: {status}.")));
        }
        let left = job.end(GRACE).await;
        Ok(match left {
            true => ToolOutput::error(format!("{id} does not end, even when it is killed.")),
            false => ToolOutput::ok(format!("{id} was ended.")),
        })
    }
}
