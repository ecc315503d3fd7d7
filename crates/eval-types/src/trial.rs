//! One trial: a task, in one variant, by one model, with everything that was tried.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ModelSource, Outcome, TrialKey, Verdict};

/// What the agent was given beside the prompt.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Nothing.
    #[default]
    Baseline,
    /// Skills.
    Skills,
    /// MCP servers.
    Mcp,
    /// Both.
    SkillsMcp,
}

impl Variant {
    /// Every variant.
    pub const ALL: [Self; 4] = [Self::Baseline, Self::Skills, Self::Mcp, Self::SkillsMcp];

    /// The name in files and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Skills => "skills",
            Self::Mcp => "mcp",
            Self::SkillsMcp => "skills-mcp",
        }
    }

    /// The variant of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    /// The variant with these two features.
    pub fn of(skills: bool, mcp: bool) -> Self {
        match (skills, mcp) {
            (false, false) => Self::Baseline,
            (true, false) => Self::Skills,
            (false, true) => Self::Mcp,
            (true, true) => Self::SkillsMcp,
        }
    }

    /// Whether skills are on.
    pub fn has_skills(self) -> bool {
        matches!(self, Self::Skills | Self::SkillsMcp)
    }

    /// Whether MCP servers are on.
    pub fn has_mcp(self) -> bool {
        matches!(self, Self::Mcp | Self::SkillsMcp)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Tokens that the agent says it used. A claim: it comes out of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenUsage {
    /// Tokens sent.
    pub input: u64,
    /// Of these, tokens that the provider had cached.
    pub cached: u64,
    /// Tokens received.
    pub output: u64,
}

impl TokenUsage {
    /// Sent and received together.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Adds another usage.
    pub fn add(&mut self, other: &Self) {
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.output = self.output.saturating_add(other.output);
    }
}

/// A check that ran, and what it said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// What it said.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was checked, for people.
    pub check: String,
    /// The end of what the check printed.
    pub output: String,
}

/// One try at a trial, in a sandbox of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The sandbox, once there was one.
    pub sandbox: Option<String>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say it.
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
    /// Exit code of the agent, if it ended.
    pub exit_code: Option<i32>,
    /// What went wrong while the sandbox was cleaned up.
    pub cleanup_error: Option<String>,
    /// The trace that its calls of the model belong to: 32 hexadecimal digits, as W3C Trace Context has them. None where
    /// no agent was started, or its model's server takes no such id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// A task in one variant: what the agent said and how it was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub key: TrialKey,
    /// What the agent was asked.
    pub prompt: String,
    /// Model that it asked.
    pub model: String,
    /// What answered.
    pub model_source: ModelSource,
    /// The agent's answer: its standard output, trimmed.
    pub output: String,
    /// Its standard error, trimmed.
    pub stderr: String,
    /// Its exit code, if it ended.
    pub exit_code: Option<i32>,
    /// How the trial ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say it.
    pub reason: Option<String>,
    /// What the check said, if one ran.
    pub verification: Option<Verification>,
    /// When the first attempt began.
    pub started_at: Timestamp,
    /// How long the agent of the last attempt worked, in seconds.
    pub elapsed_s: f64,
    /// How long the trial took with everything, in seconds.
    pub total_s: f64,
    /// Turns that the agent used, if it said so.
    pub turns: Option<u32>,
    /// Tokens, if the agent said so.
    pub usage: Option<TokenUsage>,
    /// What they cost in USD, if the agent said so; it knows where the run has a price.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
}
