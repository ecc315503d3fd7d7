//! What a person sees of a run: bars on a terminal, plain lines elsewhere.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use async_trait::async_trait;
use eval_types::{Trial, TrialKey};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sandbox_runner::{BoxError, Descriptor, Event, Subscriber};

use crate::{
    printer::{Printer, printable},
    table::{ends, seconds, short},
};

/// Draws events.
pub(crate) struct Progress {
    printer: Printer,
    /// A single prompt: its answer goes to standard output as it comes.
    single: bool,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    trials: Mutex<HashMap<TrialKey, ProgressBar>>,
}

impl Progress {
    pub(crate) fn new(printer: &Printer, trials: usize, single: bool) -> Self {
        let bars = printer.has_bars().then(|| Bars::new(printer.bars().clone(), trials, single));
        Self { printer: printer.clone(), single, bars }
    }

    fn line(&self, line: &str) {
        self.printer.note(line);
    }

    /// The output of a build: its last line on a terminal, all of it with `-v`.
    fn detail(&self, line: &str) {
        match &self.bars {
            _ if self.printer.is_verbose() => self.line(line),
            Some(bars) => bars.total.set_message(short(&printable(line), 80)),
            None => {}
        }
    }

    /// `--quiet` hides how a trial ended only where it ended well.
    fn finished(&self, trial: &Trial) {
        let line = finished(trial);
        if self.printer.is_quiet() && !trial.outcome.is_success() {
            self.printer.failure(&line);
        } else {
            self.line(&line);
        }
    }

    fn output(&self, trial: &TrialKey, descriptor: Descriptor, line: &str) {
        if self.single && descriptor == Descriptor::Stdout {
            self.printer.text(line);
        } else if self.single {
            self.printer.note(line);
        } else {
            if let Some(bars) = &self.bars {
                bars.say(trial, line);
            }
            self.line(&format!("[{}] {line}", trial.task));
        }
    }
}

#[async_trait]
impl Subscriber for Progress {
    async fn on(&self, event: &Event) -> Result<(), BoxError> {
        match event {
            Event::Preparing { line, detail: false } => self.line(line),
            Event::Preparing { line, detail: true } => self.detail(line),
            Event::AttemptStarted { trial, sandbox, .. } => {
                if let Some(bars) = &self.bars {
                    bars.total.set_message("");
                    if !self.single {
                        bars.start(trial);
                    }
                } else if !self.single {
                    self.line(&format!("[{}] started in {sandbox}", trial.task));
                }
            }
            Event::Output { trial, descriptor, line } => self.output(trial, *descriptor, line),
            Event::Retrying { trial, attempt, reason, .. } => {
                let reason = ends(reason.as_deref().unwrap_or("the sandbox failed"), 300);
                self.line(&format!("[{}] {reason}; attempt {attempt} follows", trial.task));
            }
            Event::TrialFinished { trial, .. } => {
                if let Some(bars) = &self.bars {
                    bars.finish(&trial.key);
                }
                self.finished(trial);
            }
            Event::RunFinished { .. } => {
                if let Some(bars) = &self.bars {
                    bars.total.finish_and_clear();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// How a trial ended. The cause of a failure is the last part of its reason.
fn finished(trial: &Trial) -> String {
    let reason = trial.reason.as_deref().map(|reason| format!(" ({})", ends(reason, 300)));
    let (outcome, time) = (trial.outcome, seconds(trial.total_s));
    format!("[{}] {outcome} after {time}{}", trial.key.task, reason.unwrap_or_default())
}

impl Bars {
    const TICK: Duration = Duration::from_millis(120);

    fn new(all: MultiProgress, trials: usize, single: bool) -> Self {
        let style = ProgressStyle::with_template(match single {
            true => "{spinner} {elapsed}  {wide_msg}",
            false => "{bar:24} {pos}/{len} trials  {elapsed}  {wide_msg}",
        });
        let total = ProgressBar::new(u64::try_from(trials).unwrap_or_default());
        let total = all.add(total);
        total.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        total.enable_steady_tick(Self::TICK);
        Self { all, total, trials: Mutex::default() }
    }

    fn start(&self, trial: &TrialKey) {
        let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed}  {wide_msg}");
        let bar = self.all.insert_before(&self.total, ProgressBar::new_spinner());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(trial.to_string());
        bar.enable_steady_tick(Self::TICK);
        self.trials().insert(trial.clone(), bar);
    }

    fn say(&self, trial: &TrialKey, line: &str) {
        if let Some(bar) = self.trials().get(trial) {
            bar.set_message(short(&printable(line), 80));
        }
    }

    fn finish(&self, trial: &TrialKey) {
        if let Some(bar) = self.trials().remove(trial) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        self.total.inc(1);
    }

    fn trials(&self) -> std::sync::MutexGuard<'_, HashMap<TrialKey, ProgressBar>> {
        self.trials.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
