//! Writes results the moment they exist: to the index, to this machine's files, to the volume.

use async_trait::async_trait;
use eval_types::{Run, Trial, TrialKey};
use results_store::{Artifact, Index, RunFiles};
use sandbox_runner::{BoxError, Event, Subscriber, TrialFile};

/// Keeps a run.
pub(crate) struct ResultsSink {
    run: Run,
    index: Index,
    /// This machine's files.
    here: RunFiles,
    volume: RunFiles,
}

impl ResultsSink {
    pub(crate) fn new(run: Run, index: Index, here: RunFiles, volume: RunFiles) -> Self {
        Self { run, index, here, volume }
    }

    async fn keep(&self, trial: &Trial, files: &[TrialFile]) -> results_store::Result<()> {
        // The index last: what it calls finished has its files. A volume that can't be reached is an
        // error and takes no result from this machine.
        self.keep_in(&self.here, trial, files).await?;
        let on_volume = self.keep_in(&self.volume, trial, files).await;
        self.index.record_trial(&self.run.id, trial).await?;
        on_volume
    }

    async fn keep_in(
        &self,
        place: &RunFiles,
        trial: &Trial,
        files: &[TrialFile],
    ) -> results_store::Result<()> {
        for file in files {
            self.keep_file(place, &trial.key, file).await?;
        }
        place.put_trial(&self.run.id, trial).await
    }

    async fn keep_file(
        &self,
        place: &RunFiles,
        trial: &TrialKey,
        file: &TrialFile,
    ) -> results_store::Result<()> {
        let contents = file.contents.clone();
        let size = contents.len();
        let artifact = Artifact { name: file.name.to_owned(), contents: contents.into() };
        let location = place.put_artifact(&self.run.id, trial, &artifact).await?;
        self.index.record_artifact(&self.run.id, &location, size).await
    }

    /// Writes the summary everywhere and closes the run.
    pub(crate) async fn finish(&self, run: &Run, trials: &[Trial]) -> results_store::Result<()> {
        self.here.put_summary(run, trials).await?;
        let on_volume = self.volume.put_summary(run, trials).await;
        self.index.finish(run).await?;
        on_volume
    }
}

#[async_trait]
impl Subscriber for ResultsSink {
    async fn on(&self, event: &Event) -> Result<(), BoxError> {
        let run = &self.run.id;
        match event {
            Event::AttemptStarted { trial, attempt, sandbox } => {
                self.index.attempt_started(run, trial, *attempt, sandbox).await?;
            }
            Event::AttemptFinished { trial, attempt, outcome, .. } => {
                self.index.attempt_ended(run, trial, *attempt, outcome).await?;
            }
            Event::TrialFinished { trial, files } => self.keep(trial, files).await?,
            _ => {}
        }
        Ok(())
    }
}
