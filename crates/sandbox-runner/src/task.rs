//! One task: a prompt, what lies in the workspace before, what is checked after.

use std::{collections::BTreeMap, time::Duration};

use eval_types::TaskId;

use crate::Network;

/// What `{{nonce}}` is replaced by: a value that no agent and no recording can know beforehand.
pub const NONCE: &str = "{{nonce}}";

/// A task of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// What the agent is asked.
    pub prompt: String,
    /// Turns; the run's where absent.
    pub max_turns: Option<u32>,
    /// Time for the agent; the run's where absent.
    pub timeout: Option<Duration>,
    /// What its sandbox may reach, less than the run's; the run's where absent.
    pub network: Option<Network>,
    /// Files in the workspace, by path relative to it, before the agent starts.
    pub files: BTreeMap<String, String>,
    /// What is checked after the agent ended. All must be satisfied; none: the trial is never
    /// called passed.
    pub checks: Vec<Check>,
}

/// One check of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A shell command in the workspace succeeds.
    Command {
        /// For `sh -c`.
        command: String,
        /// How long it may take.
        timeout: Duration,
    },
    /// The agent's answer holds a text, upper and lower case being equal.
    AnswerContains(String),
}

impl Task {
    /// A task that is a prompt alone.
    pub fn prompt(id: TaskId, prompt: impl Into<String>) -> Self {
        let prompt = prompt.into();
        let (files, checks) = Default::default();
        Self { id, prompt, max_turns: None, timeout: None, network: None, files, checks }
    }

    /// The task of one trial, with its own value in place of `{{nonce}}`.
    pub fn with_nonce(&self, nonce: &str) -> Self {
        let fill = |text: &str| text.replace(NONCE, nonce);
        let check = |check: &Check| match check {
            Check::Command { command, timeout } => {
                Check::Command { command: fill(command), timeout: *timeout }
            }
            Check::AnswerContains(text) => Check::AnswerContains(fill(text)),
        };
        Self {
            prompt: fill(&self.prompt),
            files: self.files.iter().map(|(path, text)| (fill(path), fill(text))).collect(),
            checks: self.checks.iter().map(check).collect(),
            ..self.clone()
        }
    }

    /// How long the checks may take in all.
    pub fn check_time(&self) -> Duration {
        let time = |check: &Check| match check {
            Check::Command { timeout, .. } => *timeout,
            Check::AnswerContains(_) => Duration::ZERO,
        };
        self.checks.iter().map(time).sum()
    }
}

/// A random value for one trial: letters and digits, nothing that a shell or a pattern reads.
pub fn nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 6];
    getrandom::fill(&mut bytes)?;
    Ok(format!("n{}", hex::encode(bytes)))
}
