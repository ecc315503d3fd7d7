//! One run: what was asked for, and by what it was answered.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Allowance, RunId};

/// What answered the agent's calls. No statistic mixes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// A real model.
    Live,
    /// Recordings: deterministic, says nothing about a model.
    Replay,
    /// A stand-in that makes its answers up.
    Mock,
}

impl ModelSource {
    /// The name in files and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replay => "replay",
            Self::Mock => "mock",
        }
    }

    /// The source of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Live, Self::Replay, Self::Mock].into_iter().find(|source| source.name() == name)
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a run was asked to do. Written when it starts; times of its end are added when it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; absent while it runs, or where it was killed.
    pub finished_at: Option<Timestamp>,
    /// `modal` or `local`.
    pub target: String,
    /// Modal environment.
    pub environment: String,
    /// File of tasks; absent for a single prompt.
    pub benchmark: Option<String>,
    /// Model that the agent asked for.
    pub model: String,
    /// What answered.
    pub model_source: ModelSource,
    /// What answered, for people: an address, or the recordings.
    pub answered_by: String,
    /// Variants: `baseline`, `skills`, `mcp`, `skills+mcp` or `A/B`.
    pub mode: String,
    /// Directory of skills.
    pub skills_dir: Option<String>,
    /// File of MCP servers.
    pub mcp_config: Option<String>,
    /// Image of the sandboxes.
    pub image: String,
    /// Network of the sandboxes.
    pub network: String,
    /// What the agent of each trial may use up besides turns and time.
    #[serde(default)]
    pub allowance: Allowance,
    /// SHA-256 of the agent's binary.
    pub agent_sha256: String,
    /// How many tasks the benchmark has.
    pub total_tasks: usize,
    /// How many trials are planned.
    pub total_trials: usize,
    /// Trials at once.
    pub parallel: usize,
    /// What the backend took instead of what was asked for, one line each.
    pub substitutions: Vec<String>,
    /// Why it ended before all its trials did; absent where nothing kept it from them.
    #[serde(default)]
    pub error: Option<String>,
}

impl Run {
    /// Seconds from start to end.
    pub fn elapsed_s(&self) -> Option<f64> {
        let end = self.finished_at?;
        Some(end.duration_since(self.started_at).as_secs_f64())
    }
}
