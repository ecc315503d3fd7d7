//! Keys of trials for the deployed proxy.

use std::{collections::HashMap, sync::Arc, time::Duration};

use eval_types::{RunId, TrialKey};
use goat_keys::{Claims, SigningKeys, TokenId};
use jiff::Timestamp;
use sandbox_runner::{Error, Plan, Secret, relay::TrialKeys};

/// Signs a token for each attempt: run and task, the trial's model alone, until five minutes after its time-out.
#[derive(Debug)]
pub(super) struct TaskKeys {
    signing: SigningKeys,
    run: RunId,
    trials: HashMap<TrialKey, (String, Duration)>,
}

impl TaskKeys {
    pub(super) fn new(signing: SigningKeys, plan: &Plan) -> Self {
        let trial = |it: &sandbox_runner::PlannedTrial| {
            (it.key.clone(), (it.model.clone(), it.timeout + plan.grace))
        };
        let trials = plan.trials.iter().map(trial).collect();
        Self { signing, run: plan.run.clone(), trials }
    }

    pub(super) fn shared(self) -> Arc<dyn TrialKeys> {
        Arc::new(self)
    }
}

impl TrialKeys for TaskKeys {
    fn key(&self, trial: &TrialKey) -> sandbox_runner::Result<Secret> {
        let failed = |error| Error::backend("make a key for a trial", error);
        let (model, timeout) = self.trials.get(trial).cloned().unwrap_or_default();
        let (run, task) = (self.run.clone(), trial.task.clone());
        let mut claims = Claims::for_trial(run, task, timeout, Timestamp::now());
        claims.id = Some(TokenId::generate().map_err(failed)?);
        claims.tags = vec![
            format!("variant:{}", trial.variant),
            format!("model:{model}"),
            format!("epoch:{}", trial.epoch),
        ];
        let token = self.signing.issue(&claims.with_models([model])).map_err(failed)?;
        Ok(Secret::new(token.expose()))
    }
}
