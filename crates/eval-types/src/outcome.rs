//! How a trial ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a trial, or one attempt of it, ended.
///
/// Only a check makes an outcome [`Passed`](Self::Passed), [`Failed`](Self::Failed) or
/// [`Scored`](Self::Scored). Where the agent did not end by itself, a check may have spoken all the
/// same: its verdict is kept beside the outcome, in [`Verification`](crate::Verification).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The check is satisfied.
    Passed,
    /// The check is not satisfied.
    Failed,
    /// The check gave points.
    Scored {
        /// Between 0 and 1.
        score: f64,
    },
    /// The agent answered and nothing checked the answer. Never counted as passed.
    Completed,
    /// The time of the task was used up.
    TimedOut,
    /// The agent gave up: turns used up, wrong usage, a crash.
    AgentError,
    /// The model could not be asked: wrong key, unknown model, no answer.
    ModelError,
    /// Ours: a sandbox, a network, a disk. Tried again, and never the agent's failure.
    InfrastructureError,
    /// Somebody ended the run.
    Cancelled,
    /// The run ended before this trial began.
    NotRun,
}

impl Outcome {
    /// Every outcome, in the order of tables.
    pub const ALL: [Self; 10] = [
        Self::Passed,
        Self::Failed,
        Self::Scored { score: 0.0 },
        Self::Completed,
        Self::TimedOut,
        Self::AgentError,
        Self::ModelError,
        Self::InfrastructureError,
        Self::Cancelled,
        Self::NotRun,
    ];

    /// The name in files, rows and filters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Scored { .. } => "scored",
            Self::Completed => "completed",
            Self::TimedOut => "timed_out",
            Self::AgentError => "agent_error",
            Self::ModelError => "model_error",
            Self::InfrastructureError => "infrastructure_error",
            Self::Cancelled => "cancelled",
            Self::NotRun => "not_run",
        }
    }

    /// The outcome of that name; `scored` needs its score.
    pub fn from_name(name: &str, score: Option<f64>) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.name() == name)?;
        match found {
            Self::Scored { .. } => score.map(|score| Self::Scored { score }),
            other => Some(other),
        }
    }

    /// The points of a scored trial; 1 and 0 for passed and failed.
    pub fn score(&self) -> Option<f64> {
        match self {
            Self::Passed => Some(1.0),
            Self::Failed => Some(0.0),
            Self::Scored { score } => Some(*score),
            _ => None,
        }
    }

    /// Whether a resumed run leaves the trial alone. What is ours or was interrupted runs again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::InfrastructureError | Self::Cancelled | Self::NotRun)
    }

    /// Whether a run with this trial in it may be called successful.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Passed | Self::Completed | Self::Scored { .. })
    }
}

/// For people: `timed out`, `scored 0.50`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scored { score } => f.pad(&format!("scored {score:.2}")),
            other => f.pad(&other.name().replace('_', " ")),
        }
    }
}

/// What a check said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Satisfied.
    Passed,
    /// Not satisfied.
    Failed,
    /// So many points.
    Scored {
        /// Between 0 and 1.
        score: f64,
    },
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Failed => Self::Failed,
            Verdict::Scored { score } => Self::Scored { score },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_found_by_its_name() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_name(outcome.name(), Some(0.0)), Some(outcome));
        }
        assert_eq!(Outcome::from_name("scored", None), None);
        assert_eq!(Outcome::from_name("won", None), None);
    }

    #[test]
    fn outcomes_are_stored_as_they_always_were() {
        let stored: Vec<_> =
            Outcome::ALL.iter().map(|outcome| serde_json::to_string(outcome).unwrap()).collect();
        insta::assert_snapshot!(stored.join("\n"), @r#"
        {"outcome":"passed"}
        {"outcome":"failed"}
        {"outcome":"scored","score":0.0}
        {"outcome":"completed"}
        {"outcome":"timed_out"}
        {"outcome":"agent_error"}
        {"outcome":"model_error"}
        {"outcome":"infrastructure_error"}
        {"outcome":"cancelled"}
        {"outcome":"not_run"}
        "#);
    }

    #[test]
    fn completed_is_not_passed_and_has_no_score() {
        assert_eq!(Outcome::Completed.score(), None);
        assert!(Outcome::Completed.is_success());
    }
}
