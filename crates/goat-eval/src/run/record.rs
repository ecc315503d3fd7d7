//! The end of a run on file: the last line of the transcript, and the summary.
//!
//! It is recorded once, by the run itself or, where that hangs, by the thread that watches it: see [`super::stop`].

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{VERSION, end::End, output_error, stop::Cause};
use crate::{
    agent::Ledger,
    error::one_line,
    exit_code,
    model::price::Price,
    progress::Progress,
    summary::{Outcome, SCHEMA, Summary},
    tool::bash::Processes,
    transcript::{Event, Transcript},
};

/// What a summary is made of. Shared with the thread that watches the run.
#[derive(Debug)]
pub(super) struct Recorder {
    /// When the run began.
    pub(super) start: Instant,
    /// The file of `--summary`.
    pub(super) path: Option<PathBuf>,
    /// The model as it is sent.
    pub(super) model: String,
    /// What its tokens cost.
    pub(super) price: Option<Price>,
    /// What was used up so far.
    pub(super) ledger: Ledger,
    /// The transcript.
    pub(super) transcript: Transcript,
    /// What tools have started.
    pub(super) processes: Arc<Processes>,
    has_begun: AtomicBool,
}

/// Leave to record the end; there is one.
#[derive(Debug)]
pub(super) struct Begun(());

impl Recorder {
    pub(super) fn new(
        start: Instant,
        path: Option<PathBuf>,
        model: String,
        price: Option<Price>,
        processes: Arc<Processes>,
    ) -> Self {
        Recorder {
            start,
            path,
            model,
            price,
            processes,
            ledger: Ledger::default(),
            transcript: Transcript::default(),
            has_begun: AtomicBool::new(false),
        }
    }

    /// Leave to record the end, unless the other side has it.
    pub(super) fn begin(&self) -> Option<Begun> {
        let was_begun = self.has_begun.swap(true, Ordering::SeqCst);
        (!was_begun).then_some(Begun(()))
    }

    /// How the run ended, by what is known now.
    pub(super) fn summary(&self, end: &End) -> Summary {
        let (exit_code, tally) = (end.exit_code(), self.ledger.tally());
        Summary {
            schema: SCHEMA,
            agent_version: VERSION.into(),
            outcome: Outcome::of_exit_code(exit_code),
            exit_code,
            error: end.error(tally),
            model: self.model.clone(),
            turns: tally.turns,
            tool_calls: tally.tool_calls,
            usage: tally.usage,
            cost_usd: self.price.map(|price| price.of(tally.usage)),
            elapsed_s: (self.start.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0,
        }
    }

    /// Writes the last line of the transcript, the summary and the error; returns the exit code.
    pub(super) fn record(&self, _: Begun, summary: &Summary, progress: &Progress) -> u8 {
        if let Err(error) = self.transcript.end(last_line(summary)) {
            progress.line(&format!("warning: the transcript ends here: {error}"));
        }
        let written = self.path.as_ref().map_or(Ok(()), |path| summary.write(path));
        if let Some(error) = &summary.error {
            progress.full_line(error);
        }
        let Err(source) = written else { return summary.exit_code };
        let error = output_error("summary", self.path.clone(), source);
        progress.full_line(&one_line(&error));
        match summary.exit_code {
            exit_code::ANSWERED => error.exit_code(),
            code => code,
        }
    }

    /// Ends everything and records the end in the place of a run that hangs. Says nothing to a person: that may be
    /// what it hangs in.
    pub(super) fn force(&self, _: Begun, cause: Cause) {
        self.processes.kill_all();
        let summary = self.summary(&End::Stopped(cause));
        let _ = self.transcript.end(last_line(&summary));
        if let Some(path) = &self.path {
            let _ = summary.write(path);
        }
    }
}

fn last_line(summary: &Summary) -> Event {
    Event::End {
        outcome: summary.outcome,
        exit_code: summary.exit_code,
        error: summary.error.clone(),
        turns: summary.turns,
        usage: summary.usage,
        cost_usd: summary.cost_usd,
        elapsed_s: summary.elapsed_s,
    }
}
