//! Writes results the moment they exist: to the index, to this machine's files, to the volume.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use eval_types::{Run, RunId, Trial, TrialKey};
use jiff::Timestamp;
use results_store::{Artifact, Index, RunFiles};
use sandbox_runner::{BoxError, Event, RECORDING, Stop, Subscriber, TrialFile};

use crate::local_server::LocalServer;

/// Writing one thing to the volume.
const VOLUME: Duration = Duration::from_secs(120);

/// Where a run is kept.
pub(crate) struct Places {
    /// This machine's list.
    pub(crate) index: Index,
    /// This machine's files.
    pub(crate) here: RunFiles,
    /// Everybody's files.
    pub(crate) volume: RunFiles,
}

/// Keeps a run.
pub(crate) struct ResultsSink {
    run: Mutex<Run>,
    places: Places,
    /// Knows what it took in place of images; none on Modal, which takes nothing.
    local: Option<LocalServer>,
    stop: Stop,
    /// Whether something is left for the next command: a sandbox that runs, a file for the volume.
    is_incomplete: AtomicBool,
}

/// The volume was not waited for.
#[derive(Debug, thiserror::Error)]
#[error("the results are not on the volume yet: the next command writes them")]
struct NotOnVolume;

impl ResultsSink {
    pub(crate) fn new(run: Run, places: Places, local: Option<LocalServer>, stop: Stop) -> Self {
        let is_incomplete = AtomicBool::new(false);
        Self { run: Mutex::new(run), places, local, stop, is_incomplete }
    }

    /// Keeps trials of which nothing became, and closes the run with the reason.
    pub(crate) async fn give_up(&self, error: String, trials: &[Trial]) -> Result<(), BoxError> {
        let mut kept = Ok(());
        for trial in trials {
            kept = self.keep(trial, &[]).await.and(kept);
        }
        self.finish(Some(error), trials).await.1.and(kept)
    }

    /// The index last: what it calls finished has its files. A volume that can't be reached is an
    /// error and takes no result from this machine.
    async fn keep(&self, trial: &Trial, files: &[TrialFile]) -> Result<(), BoxError> {
        let run = self.id();
        for artifact in files.iter().map(artifact) {
            let at = self.places.here.put_artifact(&run, &trial.key, &artifact).await?;
            self.places.index.record_artifact(&run, &at, artifact.contents.len()).await?;
        }
        self.places.here.put_trial(&run, trial).await?;
        let on_volume = self.on_volume(async {
            for artifact in files.iter().map(artifact) {
                self.places.volume.put_artifact(&run, &trial.key, &artifact).await?;
            }
            self.places.volume.put_trial(&run, trial).await
        });
        let on_volume = on_volume.await;
        if trial.attempts.iter().any(|attempt| attempt.cleanup_error.is_some()) {
            self.leave();
        }
        self.places.index.record_trial(&run, trial).await?;
        on_volume
    }

    /// What an attempt left lies in its own directory, where the sandbox wrote, too: without keys.
    async fn keep_attempt(
        &self,
        trial: &TrialKey,
        number: u32,
        files: &[TrialFile],
    ) -> Result<(), BoxError> {
        let run = self.id();
        for artifact in files.iter().map(artifact) {
            let put = self.places.here.put_attempt_artifact(&run, trial, number, &artifact);
            let at = put.await?;
            self.places.index.record_artifact(&run, &at, artifact.contents.len()).await?;
        }
        self.on_volume(async {
            for artifact in files.iter().map(artifact) {
                let put = self.places.volume.put_attempt_artifact(&run, trial, number, &artifact);
                put.await?;
            }
            Ok(())
        })
        .await
    }

    /// Writes the summary everywhere and closes the run, unless something is left to do: then the
    /// next command closes it.
    pub(crate) async fn finish(
        &self,
        error: Option<String>,
        trials: &[Trial],
    ) -> (Run, Result<(), BoxError>) {
        let run = {
            let mut run = self.lock();
            run.finished_at = Some(Timestamp::now());
            run.error = error;
            run.clone()
        };
        let written = self.close(&run, trials).await;
        (run, written)
    }

    async fn close(&self, run: &Run, trials: &[Trial]) -> Result<(), BoxError> {
        self.places.here.put_summary(run, trials).await?;
        let on_volume = self.on_volume(self.places.volume.put_summary(run, trials)).await;
        if self.is_incomplete() {
            self.places.index.update(run).await?;
        } else {
            self.places.index.finish(run).await?;
        }
        on_volume
    }

    /// Whether the next command has something to do for this run.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete.load(Ordering::SeqCst)
    }

    /// Writes to the volume, which may be out of reach: that is noted, and never waited for long by
    /// somebody who wants to end.
    async fn on_volume(
        &self,
        writing: impl Future<Output = results_store::Result<()>>,
    ) -> Result<(), BoxError> {
        let written = match self.stop.within(VOLUME, RECORDING, writing).await {
            Some(written) => written.map_err(BoxError::from),
            None => Err(NotOnVolume.into()),
        };
        written.inspect_err(|_| self.leave())
    }

    /// Notes what the image was really made of.
    async fn prepared(&self, bases: &[String]) -> results_store::Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        let substitutions = local.substituted(bases).await;
        let run = {
            let mut run = self.lock();
            run.substitutions = substitutions;
            run.clone()
        };
        self.places.index.update(&run).await
    }

    fn leave(&self) {
        self.is_incomplete.store(true, Ordering::SeqCst);
    }

    fn id(&self) -> RunId {
        self.lock().id.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn artifact(file: &TrialFile) -> Artifact {
    Artifact { name: file.name.to_owned(), contents: file.contents.clone().into() }
}

#[async_trait]
impl Subscriber for ResultsSink {
    async fn on(&self, event: &Event) -> Result<(), BoxError> {
        let index = &self.places.index;
        match event {
            Event::Prepared { bases } => self.prepared(bases).await?,
            Event::AttemptStarted { trial, attempt, sandbox } => {
                index.attempt_started(&self.id(), trial, *attempt, sandbox).await?;
            }
            Event::AttemptFinished { trial, attempt, outcome, files, .. } => {
                index.attempt_ended(&self.id(), trial, *attempt, outcome).await?;
                self.keep_attempt(trial, *attempt, files).await?;
            }
            Event::TrialFinished { trial, files } => self.keep(trial, files).await?,
            _ => {}
        }
        Ok(())
    }
}
