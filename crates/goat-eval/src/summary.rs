//! How a run ended: one JSON object, written to `--summary FILE` at every end.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{exit_code, model::Usage};

/// Version of [`Summary`] and of the transcript's events.
pub const SCHEMA: u32 = 1;

/// How a run ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The model gave an answer.
    Completed,
    /// The model still called tools when its turns were used up.
    TurnsUsedUp,
    /// The tokens of the run were used up.
    TokensUsedUp,
    /// The money of the run was used up.
    CostUsedUp,
    /// The model could not be used.
    ModelError,
    /// The time was over.
    TimedOut,
    /// A signal asked the agent to stop.
    Cancelled,
    /// The run could not start: no prompt, an unusable directory or file.
    UsageError,
}

impl Outcome {
    /// The outcome that an exit code stands for.
    pub fn of_exit_code(code: u8) -> Self {
        match code {
            exit_code::ANSWERED => Outcome::Completed,
            exit_code::TURNS_USED_UP => Outcome::TurnsUsedUp,
            exit_code::TOKENS_USED_UP => Outcome::TokensUsedUp,
            exit_code::COST_USED_UP => Outcome::CostUsedUp,
            exit_code::MODEL_ERROR => Outcome::ModelError,
            exit_code::TIMED_OUT => Outcome::TimedOut,
            exit_code::INTERRUPTED | exit_code::TERMINATED => Outcome::Cancelled,
            _ => Outcome::UsageError,
        }
    }
}

/// The content of a summary file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the agent.
    pub agent_version: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The process's exit code.
    pub exit_code: u8,
    /// Why there is no answer; null where there is one.
    pub error: Option<String>,
    /// The model that was asked, as it was sent.
    pub model: String,
    /// Calls of the model that were answered.
    pub turns: u32,
    /// Calls of tools.
    pub tool_calls: u32,
    /// Tokens of all prompts, by the server's own count; `input_tokens`, `output_tokens`, `cached_tokens`.
    #[serde(flatten)]
    pub usage: Usage,
    /// What that cost in USD, where a price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Seconds from start to end.
    pub elapsed_s: f64,
}

impl Summary {
    /// Writes the file in one step, so that a reader finds all of it or none.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        crate::tool::atomic::replace(path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_stable() {
        let summary = Summary {
            schema: SCHEMA,
            agent_version: "0.1.0".into(),
            outcome: Outcome::TurnsUsedUp,
            exit_code: exit_code::TURNS_USED_UP,
            error: Some("3 turns used up".into()),
            model: "gpt-5-nano".into(),
            turns: 3,
            tool_calls: 4,
            usage: Usage {
                input_tokens: 100,
                output_tokens: 20,
                cached_tokens: 50,
                estimated: false,
            },
            cost_usd: Some(0.000_125),
            elapsed_s: 1.25,
        };
        insta::assert_json_snapshot!(summary, @r#"
        {
          "schema": 1,
          "agent_version": "0.1.0",
          "outcome": "turns_used_up",
          "exit_code": 3,
          "error": "3 turns used up",
          "model": "gpt-5-nano",
          "turns": 3,
          "tool_calls": 4,
          "input_tokens": 100,
          "output_tokens": 20,
          "cached_tokens": 50,
          "cost_usd": 0.000125,
          "elapsed_s": 1.25
        }
        "#);
    }
}
