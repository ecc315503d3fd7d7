//! What a run will do, decided before anything is started.

use std::{collections::HashSet, sync::Arc, time::Duration};

use eval_types::{Allowance, ModelSource, Outcome, RunId, Trial, TrialKey, Variant};
use jiff::Timestamp;

use crate::{
    Error, Network, Result,
    extras::{Extras, Traces},
    lease,
    task::Task,
};

/// What an agent needs to write its summary.
const GRACE: Duration = Duration::from_secs(5);

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

impl PlannedTrial {
    /// What is recorded of it where nothing becomes of it.
    pub fn not_run(&self) -> Trial {
        Trial {
            key: self.key.clone(),
            prompt: self.task.prompt.clone(),
            model: self.model.clone(),
            model_source: self.model_source,
            output: String::new(),
            stderr: String::new(),
            exit_code: None,
            outcome: Outcome::NotRun,
            reason: None,
            verification: None,
            started_at: Timestamp::now(),
            elapsed_s: 0.0,
            total_s: 0.0,
            turns: None,
            usage: None,
            cost_usd: None,
            attempts: Vec::new(),
        }
    }
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
    /// What agents are given beside their prompt, where their variant has it.
    pub extras: Extras,
    /// What calls of the model carry for traces.
    pub traces: Traces,
    /// What each agent may use up besides turns and time.
    pub allowance: Allowance,
}

impl Plan {
    /// Every task in every variant. Two trials of one name are an error: they would write one file.
    /// So are a task that needs more time than a sandbox may live, and one that would reach more than
    /// the run may.
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
            fits_a_sandbox(task, defaults)?;
            narrows(task, defaults)?;
            for variant in variants {
                let trial = planned(Arc::new(task.clone()), *variant, defaults);
                // Some file systems take upper and lower case for the same.
                if !names.insert(trial.key.to_string().to_lowercase()) {
                    return Err(Error::DuplicateTrial { name: trial.key.to_string() });
                }
                trials.push(trial);
            }
        }
        Ok(Self {
            run,
            trials,
            parallel: parallel.max(1),
            attempts: 3,
            grace: GRACE,
            extras: Extras::default(),
            traces: Traces::default(),
            allowance: Allowance::default(),
        })
    }
}

/// Refuses what would be killed for its age before its time is up.
fn fits_a_sandbox(task: &Task, defaults: &Defaults) -> Result<()> {
    let longest = lease::longest_timeout(GRACE, task);
    if task.timeout.unwrap_or(defaults.timeout) > longest {
        return Err(Error::TooLong { task: task.id.clone(), longest: longest.as_secs() });
    }
    Ok(())
}

/// A task's network may only be narrower than the run's: the person who starts a run decides.
fn narrows(task: &Task, defaults: &Defaults) -> Result<()> {
    match &task.network {
        Some(wanted) if !defaults.network.covers(wanted) => Err(Error::WiderNetwork {
            task: task.id.clone(),
            wanted: wanted.clone(),
            allowed: defaults.network.clone(),
        }),
        _ => Ok(()),
    }
}

fn planned(task: Arc<Task>, variant: Variant, defaults: &Defaults) -> PlannedTrial {
    PlannedTrial {
        key: TrialKey::new(task.id.clone(), variant),
        model: defaults.model.clone(),
        model_source: defaults.model_source,
        max_turns: task.max_turns.unwrap_or(defaults.max_turns),
        timeout: task.timeout.unwrap_or(defaults.timeout),
        network: task.network.clone().unwrap_or_else(|| defaults.network.clone()),
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

    fn planned_alone(task: Task) -> Result<Plan> {
        let run = "20261124_000000".parse().unwrap();
        Plan::new(run, &[task], &[Variant::Baseline], &defaults(), 1)
    }

    #[test]
    fn a_task_narrows_the_network_and_never_widens_it() {
        let mut task = Task::prompt("a".parse().unwrap(), "x");
        task.network = Some(Network::None);
        assert_eq!(planned_alone(task.clone()).unwrap().trials[0].network, Network::None);
        task.network = Some(Network::Open);
        let error = planned_alone(task).unwrap_err();
        let said = "the task `a` asks for network `open`, which reaches more than the run's `llm`";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn a_task_that_outlives_a_sandbox_is_refused_with_what_fits() {
        let mut task = Task::prompt("a".parse().unwrap(), "x");
        task.timeout = Some(Duration::from_secs(86_400));
        let Err(Error::TooLong { longest, .. }) = planned_alone(task.clone()) else {
            panic!("it was planned")
        };
        task.timeout = Some(Duration::from_secs(longest + 1));
        assert!(planned_alone(task.clone()).is_err());
        task.timeout = Some(Duration::from_secs(longest));
        assert!(planned_alone(task).is_ok());
    }
}
