//! A whole run: so many trials at once, until all are done or somebody ends it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eval_types::{Outcome, Trial};
use futures::{StreamExt, stream};

use crate::{
    BoxError, ModelAccess, Plan, PlannedTrial, Result, SandboxBackend, Stop,
    backend::{Prepared, Said},
    event::{Event, Events, millis},
    executor, preflight,
};

/// What a run needs.
#[derive(Clone)]
pub struct Runner {
    /// What is to be done.
    pub plan: Arc<Plan>,
    /// Where sandboxes come from.
    pub backend: Arc<dyn SandboxBackend>,
    /// How agents reach their model.
    pub model: Arc<dyn ModelAccess>,
    /// Who is told.
    pub events: Events,
    /// Ends the run: no new trial, running sandboxes ended, trials recorded as cancelled.
    pub stop: Stop,
    /// Wait before the second attempt at a trial; doubles with each.
    pub retry_delay: Duration,
}

/// What a run made.
#[derive(Debug)]
pub struct Report {
    /// Every trial of the plan, in its order.
    pub trials: Vec<Trial>,
    /// Whether somebody ended the run.
    pub cancelled: bool,
    /// How long it took.
    pub elapsed: Duration,
    /// What subscribers could not do, such as writing a result.
    pub failures: Vec<BoxError>,
}

impl Report {
    /// Whether every trial ended well.
    pub fn is_success(&self) -> bool {
        self.trials.iter().all(|trial| trial.outcome.is_success())
    }

    /// Whether something of ours failed: a trial for want of a sandbox, or a result not written.
    pub fn has_infrastructure_error(&self) -> bool {
        let ours = |trial: &Trial| trial.outcome == Outcome::InfrastructureError;
        !self.failures.is_empty() || self.trials.iter().any(ours)
    }
}

/// Runs a plan. An error means that no trial could begin; everything later is in the report.
pub async fn run(runner: Runner) -> Result<Report> {
    let began = Instant::now();
    let plan = &runner.plan;
    let started = Event::RunStarted { run: plan.run.clone(), trials: plan.trials.len() };
    runner.events.send(started).await;
    if let Some(prepared) = prepare(&runner).await? {
        runner.events.send(Event::Prepared { bases: prepared.bases }).await;
    }
    preflight::check(&runner).await?;
    let trials = stream::iter(plan.trials.iter().enumerate())
        .map(|(position, planned)| {
            let runner = &runner;
            async move { (position, one(runner, planned).await) }
        })
        .buffer_unordered(plan.parallel);
    let mut trials: Vec<(usize, Trial)> = trials.collect().await;
    trials.sort_unstable_by_key(|(position, _)| *position);
    let trials = trials.into_iter().map(|(_, trial)| trial).collect();
    let (cancelled, elapsed) = (runner.stop.is_asked(), began.elapsed());
    let elapsed_ms = millis(elapsed);
    let finished = Event::RunFinished { run: plan.run.clone(), cancelled, elapsed_ms };
    runner.events.send(finished).await;
    Ok(Report { trials, cancelled, elapsed, failures: runner.events.take_failures() })
}

async fn one(runner: &Runner, planned: &PlannedTrial) -> Trial {
    if runner.stop.is_asked() {
        executor::not_run(runner, planned).await
    } else {
        executor::trial(runner, planned).await
    }
}

/// Prepares what all sandboxes need; none if the run was ended meanwhile. Where the server was lost it
/// is tried again, as attempts are.
async fn prepare(runner: &Runner) -> Result<Option<Prepared>> {
    let mut number = 1;
    loop {
        let prepared = tokio::select! {
            biased;
            () = runner.stop.asked() => return Ok(None),
            prepared = prepare_once(runner) => prepared,
        };
        match prepared {
            Err(error) if error.is_transient() && number < runner.plan.attempts => {
                let line = format!("trying again: {}", error.chain());
                runner.events.send(Event::Preparing { line, detail: false }).await;
            }
            prepared => return prepared.map(Some),
        }
        runner.back_off(number).await;
        number += 1;
    }
}

/// Prepares, telling its lines as they come.
async fn prepare_once(runner: &Runner) -> Result<Prepared> {
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let say = move |said: Said| {
        let _gone = sender.send(said);
    };
    let telling = async {
        while let Some(said) = lines.recv().await {
            let event = match said {
                Said::Step(line) => Event::Preparing { line, detail: false },
                Said::Detail(line) => Event::Preparing { line, detail: true },
            };
            runner.events.send(event).await;
        }
    };
    let preparing = async move { runner.backend.prepare(&say).await };
    let (prepared, ()) = tokio::join!(preparing, telling);
    prepared
}

impl Runner {
    /// How long the wait after an attempt is that failed.
    pub(crate) fn delay_after(&self, attempt: u32) -> Duration {
        self.retry_delay * 2u32.saturating_pow(attempt.saturating_sub(1))
    }

    /// Waits after an attempt that failed, or until the run is ended.
    pub(crate) async fn back_off(&self, attempt: u32) {
        tokio::select! {
            () = self.stop.asked() => {}
            () = tokio::time::sleep(self.delay_after(attempt)) => {}
        }
    }
}
