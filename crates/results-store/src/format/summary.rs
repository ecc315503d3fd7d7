//! `summary.json`.

use std::collections::BTreeMap;

use eval_types::{Allowance, ModelSource, Outcome, Run, Trial};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{TrialFile, VERSION, hundredths};

/// A whole run as a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SummaryFile {
    /// The run.
    #[serde(default)]
    pub run_id: String,
    /// Model; the oldest files name none.
    #[serde(default)]
    pub model: String,
    /// `baseline`, `skills`, `mcp`, `skills+mcp` or `A/B`.
    #[serde(default)]
    pub mode: String,
    /// Directory of skills.
    #[serde(default)]
    pub skills_dir: Option<String>,
    /// File of MCP servers.
    #[serde(default)]
    pub mcp_config: Option<String>,
    /// Tasks of the benchmark.
    #[serde(default)]
    pub total_tasks: usize,
    /// Trials; absent in older files, see [`SummaryFile::runs`].
    #[serde(default)]
    pub total_runs: usize,
    /// Trials that a check passed; in older files, exit codes 0.
    #[serde(default)]
    pub passed: usize,
    /// Trials that a check failed; in older files, other exit codes.
    #[serde(default)]
    pub failed: usize,
    /// Seconds from start to end; in the oldest files the sum over trials.
    #[serde(default)]
    pub total_elapsed_s: f64,
    /// The trials, whole, in run order.
    #[serde(default)]
    pub results: Vec<TrialFile>,
    /// Variants side by side, in A/B runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// `"12/15"`, in A/B runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_pass_rate: Option<String>,
    /// `"12/15"`, in A/B runs with skills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skills_pass_rate: Option<String>,
    /// `"12/15"`, in A/B runs with MCP servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_pass_rate: Option<String>,
    /// Version of the format; 0 in files that say none.
    #[serde(default)]
    pub format: u32,
    /// How many trials ended how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<String, usize>,
    /// What answered the agents' calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_source: Option<ModelSource>,
    /// What answered, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// `modal` or `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Modal environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// File of tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<String>,
    /// Image of the sandboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Network of the sandboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What the agent of each trial could use up besides turns and time.
    #[serde(default, skip_serializing_if = "Allowance::is_empty")]
    pub allowance: Allowance,
    /// SHA-256 of the agent's binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_sha256: Option<String>,
    /// What the backend took instead of what was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub substitutions: Vec<String>,
    /// When the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Why the run ended before all its trials did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One task in the variants of an A/B run. Only variants that ran are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Task.
    #[serde(default)]
    pub id: String,
    /// The rest: `<variant>_pass`, `<variant>_time_s`.
    #[serde(flatten)]
    pub variants: Map<String, Value>,
}

impl SummaryFile {
    /// The summary of a run.
    pub fn new(run: &Run, trials: &[Trial]) -> Self {
        let count = |name| trials.iter().filter(|trial| trial.outcome.name() == name).count();
        Self {
            run_id: run.id.to_string(),
            model: run.model.clone(),
            mode: run.mode.clone(),
            skills_dir: run.skills_dir.clone(),
            mcp_config: run.mcp_config.clone(),
            total_tasks: run.total_tasks,
            total_runs: trials.len(),
            passed: count(Outcome::Passed.name()),
            failed: count(Outcome::Failed.name()),
            total_elapsed_s: hundredths(run.elapsed_s().unwrap_or_default()),
            results: trials.iter().map(TrialFile::from).collect(),
            format: VERSION,
            outcomes: tally(trials.iter().map(|trial| trial.outcome)),
            model_source: Some(run.model_source),
            answered_by: Some(run.answered_by.clone()),
            target: Some(run.target.clone()),
            environment: Some(run.environment.clone()),
            benchmark: run.benchmark.clone(),
            image: Some(run.image.clone()),
            network: Some(run.network.clone()),
            allowance: run.allowance,
            agent_sha256: Some(run.agent_sha256.clone()),
            substitutions: run.substitutions.clone(),
            started_at: Some(run.started_at.to_string()),
            finished_at: run.finished_at.map(|time| time.to_string()),
            error: run.error.clone(),
            ..Self::default()
        }
    }

    /// How many trials ran: older files count them by their results alone.
    pub fn runs(&self) -> usize {
        if self.total_runs > 0 { self.total_runs } else { self.results.len() }
    }

    /// How many trials ended how, older files included.
    pub fn tally(&self) -> BTreeMap<String, usize> {
        tally(self.results.iter().map(TrialFile::outcome))
    }

    /// Reads a file of any version.
    pub fn parse(location: &str, bytes: &[u8]) -> crate::Result<Self> {
        super::parse(location, bytes)
    }
}

fn tally(outcomes: impl Iterator<Item = Outcome>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome.name().to_owned()).or_default() += 1;
    }
    counts
}
