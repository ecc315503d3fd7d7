//! The tool Bash: a command of the shell.
//!
//! A command has no input, a process group of its own, and a pipe for both outputs that is emptied as long as
//! anything holds it. So nothing that it leaves running can make the agent wait, and all of it can be found and
//! stopped: see [`Processes`].

mod background;
mod capture;
mod descendants;
mod processes;

use std::{path::Path, process::ExitStatus, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use tokio::process::Child;

pub(crate) use background::{BashOutput, KillShell};
pub(crate) use processes::LONGEST_STOP;
pub use processes::Processes;

use super::{Arguments, Tool, ToolError, ToolOutput, ToolSpec, Workspace};
use capture::Capture;

/// Time for a command, unless the call says otherwise.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Time for a command at most.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
/// After a command has ended, how long its output may be silent before its end counts as reached. Only a process
/// that it left behind makes that matter.
const SILENCE: Duration = Duration::from_millis(200);
/// How long output may go on after the command has ended.
const LONGEST_DRAIN: Duration = Duration::from_secs(5);

/// Runs commands.
#[derive(Debug)]
pub(crate) struct Bash {
    workspace: Workspace,
    processes: Arc<Processes>,
}

impl Bash {
    pub(crate) fn new(workspace: Workspace, processes: Arc<Processes>) -> Self {
        Bash { workspace, processes }
    }

    async fn in_foreground(&self, command: &str, limit: Duration) -> Result<ToolOutput, ToolError> {
        let cwd = self.processes.cwd(&self.workspace.cwd);
        // Without it the next command starts where this one did.
        let leave = self.processes.new_path("cwd", "txt").ok();
        let (mut child, capture) =
            self.processes.start(command, &cwd, leave.as_deref(), Capture::default())?;
        let pid = child.id();
        let result = match tokio::time::timeout(limit, child.wait()).await {
            Ok(Ok(status)) => {
                let quiet = drained(&capture).await;
                let moved = leave.and_then(|leave| self.processes.take_cwd(&cwd, &leave));
                ended(&capture, status, quiet, moved.as_deref())
            }
            Ok(Err(source)) => {
                return Err(ToolError::Failed(format!("cannot wait for the command: {source}")));
            }
            Err(_) => {
                self.stop(&mut child, pid).await;
                drained(&capture).await;
                timed_out(&capture, limit)
            }
        };
        self.processes.forget(pid);
        self.processes.reap_orphans();
        Ok(result)
    }

    /// Asks the command and everything it started to end, then makes it.
    async fn stop(&self, child: &mut Child, pid: Option<u32>) {
        let Some(pid) = pid else { return };
        let tree = descendants::tree_of(pid);
        descendants::signal(pid, &tree, rustix::process::Signal::TERM);
        let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
        descendants::signal(pid, &tree, rustix::process::Signal::KILL);
        let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
    }

    fn in_background(&self, command: &str) -> Result<ToolOutput, ToolError> {
        let (log, path) = self.processes.new_log()?;
        let cwd = self.processes.cwd(&self.workspace.cwd);
        let (mut child, capture) =
            self.processes.start(command, &cwd, None, Capture::to_file(log))?;
        let pid = child.id().unwrap_or_default();
        let (id, told) = self.processes.add_job(pid, path.clone());
        let processes = Arc::clone(&self.processes);
        tokio::spawn(async move {
            let status = child.wait().await;
            drained(&capture).await;
            let status = status.map_or_else(|error| error.to_string(), describe);
            capture.note(&format!("[{status}]"));
            told.send_replace(Some(status));
            processes.forget(Some(pid));
        });
        let path = path.display();
        Ok(ToolOutput::ok(format!(
            "Started in the background as {id} (process {pid}). BashOutput shows what it prints, KillShell ends it; it \
             is ended when you give your final answer. All of its output is in {path}."
        )))
    }
}

#[async_trait]
impl Tool for Bash {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "Bash".into(),
            description: "Runs a command in a new shell in the working directory and returns what it prints (both \
                          outputs together; beyond 30000 characters the middle is cut) and its exit code if that is \
                          not 0. The directory that it changes to with `cd` is where the next one starts. Nothing can \
                          be typed into it. It has 2 minutes, or `timeout` milliseconds (10 minutes at most); then it \
                          is stopped with everything it started. With `run_in_background` it goes on while you work: \
                          see BashOutput and KillShell."
                .into(),
            brief: "Runs a shell command and returns what it prints.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "command": {"type": "string", "description": "The command"},
                    "timeout": {"type": "integer", "description": "Milliseconds, at most 600000", "default": 120_000},
                    "description": {"type": "string", "description": "What it does, in a few words"},
                    "run_in_background": {"type": "boolean", "description": "Do not wait for it", "default": false},
                },
                "required": ["command"],
            }),
            read_only: false,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let command = arguments.required_text("command")?;
        arguments.text("description")?;
        let limit = arguments.number("timeout")?.filter(|millis| *millis > 0);
        let limit = limit.map_or(TIMEOUT, Duration::from_millis).min(LONGEST_TIMEOUT);
        if arguments.flag("run_in_background")? {
            self.in_background(&command)
        } else {
            self.in_foreground(&command, limit).await
        }
    }
}

/// Waits for the end of the output; false if something still holds it and is silent.
async fn drained(capture: &Capture) -> bool {
    let drain = async {
        loop {
            let before = capture.total();
            if tokio::time::timeout(SILENCE, capture.ended()).await.is_ok() {
                return true;
            }
            if capture.total() == before {
                return false;
            }
        }
    };
    tokio::time::timeout(LONGEST_DRAIN, drain).await.unwrap_or(false)
}

fn ended(capture: &Capture, status: ExitStatus, quiet: bool, moved: Option<&Path>) -> ToolOutput {
    let mut text = capture.render();
    let mut note = |line: &str| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
    };
    if !status.success() {
        note(&format!("[{}]", describe(status)));
    }
    if !quiet {
        note(
            "[something the command started still runs; what it prints from here on is not shown]",
        );
    }
    if let Some(moved) = moved {
        note(&format!("[now in {}]", moved.display()));
    }
    if text.is_empty() {
        text.push_str("[no output]");
    }
    ToolOutput { text, is_error: !status.success(), full: capture.full() }
}

fn timed_out(capture: &Capture, limit: Duration) -> ToolOutput {
    let text = capture.render();
    let (gap, millis) =
        (if text.is_empty() || text.ends_with('\n') { "" } else { "\n" }, limit.as_millis());
    ToolOutput::error(format!(
        "{text}{gap}[stopped: not done after {millis} ms; what runs longer needs a larger `timeout` or `run_in_background`]"
    ))
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests;
