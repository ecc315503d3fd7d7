//! `<task>-<variant>.json`.

use eval_types::{
    Attempt, ModelSource, Outcome, TokenUsage, Trial, TrialKey, Variant, Verification,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{VERSION, hundredths};

/// One trial as a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialFile {
    /// Task.
    #[serde(default)]
    pub id: String,
    /// What the agent was asked.
    #[serde(default)]
    pub prompt: String,
    /// Model; the oldest files name none.
    #[serde(default)]
    pub model: String,
    /// Whether skills were on.
    #[serde(default)]
    pub skills_enabled: bool,
    /// Whether MCP servers were on.
    #[serde(default)]
    pub mcp_enabled: bool,
    /// Standard output, trimmed.
    #[serde(default)]
    pub output: String,
    /// Standard error, trimmed.
    #[serde(default)]
    pub stderr: String,
    /// Exit code of the agent, -1 where it has none.
    #[serde(default = "no_exit")]
    pub exit_code: i64,
    /// Seconds, two decimals.
    #[serde(default)]
    pub elapsed_s: f64,
    /// Version of the format; 0 in files that say none.
    #[serde(default)]
    pub format: u32,
    /// Name of the outcome; absent in older files, see [`TrialFile::outcome`].
    #[serde(default, rename = "outcome", skip_serializing_if = "Option::is_none")]
    pub outcome_name: Option<String>,
    /// Points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Variant; absent in older files, see [`TrialFile::variant`].
    #[serde(default, rename = "variant", skip_serializing_if = "Option::is_none")]
    pub variant_name: Option<String>,
    /// Repetition, from 1.
    #[serde(default = "first")]
    pub epoch: u32,
    /// What answered the agent's calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_source: Option<ModelSource>,
    /// What the check said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// When the trial began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Seconds with sandbox, set-up and check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_s: Option<f64>,
    /// Turns used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u32>,
    /// Tokens used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Every attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn no_exit() -> i64 {
    -1
}

fn first() -> u32 {
    1
}

impl TrialFile {
    /// How the trial ended. Older files know the exit code alone: 0 is `completed`, since nothing
    /// was checked; -1 was a crash of the runner; anything else is the agent's.
    pub fn outcome(&self) -> Outcome {
        let named = self.outcome_name.as_deref();
        named.and_then(|name| Outcome::from_name(name, self.score)).unwrap_or(
            match self.exit_code {
                0 => Outcome::Completed,
                -1 => Outcome::InfrastructureError,
                _ => Outcome::AgentError,
            },
        )
    }

    /// The variant: named, else by what was enabled.
    pub fn variant(&self) -> Variant {
        let named = self.variant_name.as_deref().and_then(Variant::from_name);
        named.unwrap_or_else(|| Variant::of(self.skills_enabled, self.mcp_enabled))
    }

    /// The trial that this was written of; none in files of older versions, which know less.
    pub fn to_trial(&self) -> Option<Trial> {
        let task = self.id.parse().ok()?;
        Some(Trial {
            key: TrialKey { task, variant: self.variant(), epoch: self.epoch },
            prompt: self.prompt.clone(),
            model: self.model.clone(),
            model_source: self.model_source?,
            output: self.output.clone(),
            stderr: self.stderr.clone(),
            exit_code: i32::try_from(self.exit_code).ok().filter(|code| *code != -1),
            outcome: self.outcome(),
            reason: self.reason.clone(),
            verification: self.verification.clone(),
            started_at: self.started_at.as_ref()?.parse().ok()?,
            elapsed_s: self.elapsed_s,
            total_s: self.total_s?,
            turns: self.turns,
            usage: self.usage,
            cost_usd: self.cost_usd,
            attempts: self.attempts.clone(),
        })
    }

    /// Reads a file of any version.
    pub fn parse(location: &str, bytes: &[u8]) -> crate::Result<Self> {
        super::parse(location, bytes)
    }
}

impl From<&Trial> for TrialFile {
    fn from(trial: &Trial) -> Self {
        Self {
            id: trial.key.task.to_string(),
            prompt: trial.prompt.clone(),
            model: trial.model.clone(),
            skills_enabled: trial.key.variant.has_skills(),
            mcp_enabled: trial.key.variant.has_mcp(),
            output: trial.output.trim().to_owned(),
            stderr: trial.stderr.trim().to_owned(),
            exit_code: trial.exit_code.map_or(-1, i64::from),
            elapsed_s: hundredths(trial.elapsed_s),
            format: VERSION,
            outcome_name: Some(trial.outcome.name().to_owned()),
            score: trial.outcome.score(),
            reason: trial.reason.clone(),
            variant_name: Some(trial.key.variant.name().to_owned()),
            epoch: trial.key.epoch,
            model_source: Some(trial.model_source),
            verification: trial.verification.clone(),
            started_at: Some(trial.started_at.to_string()),
            total_s: Some(hundredths(trial.total_s)),
            turns: trial.turns,
            usage: trial.usage,
            cost_usd: trial.cost_usd,
            attempts: trial.attempts.clone(),
            other: Map::new(),
        }
    }
}
