//! What a run will do, decided before anything is started.

use std::{collections::HashSet, sync::Arc, time::Duration};

use eval_types::{ModelSource, RunId, TrialKey, Variant};

use crate::{Error, Result, task::Task};

/// What an agent needs to write its summary.
const GRACE: Duration = Duration::from_secs(5);

/// What sandboxes of a run may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// The outside; never this machine or other sandboxes.
    Open,
    /// The model's address alone.
    Llm,
    /// Nothing.
    None,
    /// These names and the model's address.
    List(Vec<String>),
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "open" => Ok(Self::Open),
            "llm" => Ok(Self::Llm),
            "none" => Ok(Self::None),
            list if list.contains('.') && !list.contains(['/', ' ', ':']) => {
                Ok(Self::List(list.split(',').map(str::to_owned).collect()))
            }
            other => Err(format!(
                "`{other}` is no network: `open`, `llm`, `none`, or names with commas between"
            )),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => f.pad("open"),
            Self::Llm => f.pad("llm"),
            Self::None => f.pad("none"),
            Self::List(names) => f.pad(&names.join(",")),
        }
    }
}

/// What holds for every trial that does not say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// Model that the agent asks for.
    pub model: String,
    /// What answers it.
    pub model_source: ModelSource,
    /// Turns.
    pub max_turns: u32,
    /// Time for the agent.
    pub timeout: Duration,
    /// Network.
    pub network: Network,
}

/// One trial to run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTrial {
    /// Its name.
    pub key: TrialKey,
    /// The task.
    pub task: Arc<Task>,
    /// Model.
    pub model: String,
    /// What answers it.
    pub model_source: ModelSource,
    /// Turns.
    pub max_turns: u32,
    /// Time for the agent.
    pub timeout: Duration,
    /// Network.
    pub network: Network,
}

/// A run to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its name.
    pub run: RunId,
    /// Its trials, in order.
    pub trials: Vec<PlannedTrial>,
    /// Trials at once.
    pub parallel: usize,
    /// Attempts at a trial whose sandbox failed, the first one included.
    pub attempts: u32,
    /// The agent ends itself at its time-out; so much later it is killed.
    pub grace: Duration,
}

impl Plan {
    /// Every task in every variant. Two trials of one name are an error: they would write one file.
    pub fn new(
        run: RunId,
        tasks: &[Task],
        variants: &[Variant],
        defaults: &Defaults,
        parallel: usize,
    ) -> Result<Self> {
        let mut trials = Vec::with_capacity(tasks.len() * variants.len());
        let mut names = HashSet::new();
        for task in tasks {
            for variant in variants {
                let trial = planned(Arc::new(task.clone()), *variant, defaults);
                // Some file systems take upper and lower case for the same.
                if !names.insert(trial.key.to_string().to_lowercase()) {
                    return Err(Error::DuplicateTrial { name: trial.key.to_string() });
                }
                trials.push(trial);
            }
        }
        Ok(Self { run, trials, parallel: parallel.max(1), attempts: 3, grace: GRACE })
    }
}

fn planned(task: Arc<Task>, variant: Variant, defaults: &Defaults) -> PlannedTrial {
    PlannedTrial {
        key: TrialKey::new(task.id.clone(), variant),
        model: defaults.model.clone(),
        model_source: defaults.model_source,
        max_turns: task.max_turns.unwrap_or(defaults.max_turns),
        timeout: task.timeout.unwrap_or(defaults.timeout),
        network: defaults.network.clone(),
        task,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            model: "m".into(),
            model_source: ModelSource::Replay,
            max_turns: 10,
            timeout: Duration::from_secs(600),
            network: Network::Llm,
        }
    }

    #[test]
    fn a_task_overrides_the_defaults() {
        let mut task = Task::prompt("a".parse().unwrap(), "x");
        task.max_turns = Some(3);
        let run = "20261124_000000".parse().unwrap();
        let plan = Plan::new(run, &[task], &[Variant::Baseline], &defaults(), 0).unwrap();
        assert_eq!((plan.trials[0].max_turns, plan.parallel), (3, 1));
        assert_eq!(plan.trials[0].timeout, Duration::from_secs(600));
    }

    #[test]
    fn names_that_meet_are_refused() {
        let tasks = ["a", "a-skills"].map(|id| Task::prompt(id.parse().unwrap(), "x"));
        let variants = [Variant::Mcp, Variant::SkillsMcp];
        let run = "20261124_000000".parse().unwrap();
        let error = Plan::new(run, &tasks, &variants, &defaults(), 1).unwrap_err();
        assert!(matches!(error, Error::DuplicateTrial { name } if name == "a-skills-mcp"));
    }

    #[test]
    fn networks_are_named() {
        assert_eq!("llm".parse(), Ok(Network::Llm));
        let list = Network::List(vec!["example.com".into(), "files.example.com".into()]);
        assert_eq!("example.com,files.example.com".parse(), Ok(list));
        assert!("lan".parse::<Network>().is_err());
        assert!("https://example.com".parse::<Network>().is_err());
    }
}
