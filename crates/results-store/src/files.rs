//! The layout of the results, over any object store.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use eval_types::{Run, RunId, Trial, TrialKey};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};

use crate::{
    Error, Result,
    format::{SummaryFile, TrialFile, pretty},
};

/// The mark of a run that ended.
const SUMMARY: &str = "summary.json";

/// Files of runs: `<run>/summary.json`, `<run>/<task>-<variant>.json`, below `<run>/<task>-<variant>/`
/// what the agent of the last attempt left, and below `attempt-<n>/` in there what each one left.
#[derive(Clone, Debug)]
pub struct RunFiles {
    store: Arc<dyn ObjectStore>,
}

/// A file that belongs to a trial: a transcript, a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// File name, for example `transcript.jsonl`.
    pub name: String,
    /// Its bytes.
    pub contents: Bytes,
}

/// A run read back from its files.
#[derive(Debug, Default)]
pub struct StoredRun {
    /// The summary, made from the single files where there is none.
    pub summary: SummaryFile,
    /// Whether `summary.json` was there.
    pub complete: bool,
    /// Files that could not be read, and why.
    pub unreadable: Vec<Error>,
}

impl RunFiles {
    /// Runs in that store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Writes a trial. Whole or not at all, as object stores do.
    pub async fn put_trial(&self, run: &RunId, trial: &Trial) -> Result<()> {
        let location = Path::from_iter([run.as_str(), &format!("{}.json", trial.key)]);
        self.put_json(&location, &TrialFile::from(trial)).await
    }

    /// Writes a file of a trial and says where it lies.
    pub async fn put_artifact(
        &self,
        run: &RunId,
        trial: &TrialKey,
        artifact: &Artifact,
    ) -> Result<String> {
        let location = Path::from_iter([run.as_str(), &trial.to_string(), &artifact.name]);
        self.put(location, artifact).await
    }

    /// Writes a file of one attempt at a trial, in the attempt's own directory, and says where it lies.
    pub async fn put_attempt_artifact(
        &self,
        run: &RunId,
        trial: &TrialKey,
        attempt: u32,
        artifact: &Artifact,
    ) -> Result<String> {
        let (trial, attempt) = (trial.to_string(), format!("attempt-{attempt}"));
        let location = Path::from_iter([run.as_str(), &trial, &attempt, &artifact.name]);
        self.put(location, artifact).await
    }

    async fn put(&self, location: Path, artifact: &Artifact) -> Result<String> {
        let put = self.store.put(&location, artifact.contents.clone().into()).await;
        put.map_err(Error::file("write", &location))?;
        Ok(location.to_string())
    }

    /// Writes the summary: the mark of a run that ended.
    pub async fn put_summary(&self, run: &Run, trials: &[Trial]) -> Result<()> {
        let location = Path::from_iter([run.id.as_str(), SUMMARY]);
        self.put_json(&location, &SummaryFile::new(run, trials)).await
    }

    /// Reads a file of a trial.
    pub async fn artifact(&self, run: &str, trial: &str, name: &str) -> Result<Bytes> {
        let location = Path::from_iter([run, trial, name]);
        self.get(&location).await
    }

    /// Every run, newest first: each top directory is one.
    pub async fn runs(&self) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(None).await;
        let listed = listed.map_err(Error::file("list", &"/"))?;
        let mut runs: Vec<String> = listed
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect();
        runs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(runs)
    }

    /// Reads a run; without a summary, from its single files.
    pub async fn run(&self, run: &str) -> Result<StoredRun> {
        let location = Path::from_iter([run, SUMMARY]);
        match self.get(&location).await {
            Ok(bytes) => {
                let summary = SummaryFile::parse(location.as_ref(), &bytes)?;
                Ok(StoredRun { summary, complete: true, unreadable: Vec::new() })
            }
            Err(error) if error.is_not_found() => self.run_from_trials(run).await,
            Err(error) => Err(error),
        }
    }

    /// The trials of a run that were written, by their own files, and why others can't be read.
    pub async fn trials(&self, run: &str) -> Result<(Vec<TrialFile>, Vec<Error>)> {
        let prefix = Path::from(run);
        let listed = self.store.list_with_delimiter(Some(&prefix)).await;
        let listed = listed.map_err(Error::file("list", &prefix))?;
        let (mut trials, mut unreadable) = (Vec::new(), Vec::new());
        for object in listed.objects {
            let is_trial = object.location.extension() == Some("json")
                && object.location.filename() != Some(SUMMARY);
            if !is_trial {
                continue;
            }
            let bytes = self.get(&object.location).await?;
            match TrialFile::parse(object.location.as_ref(), &bytes) {
                Ok(trial) => trials.push(trial),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((trials, unreadable))
    }

    /// Copies every file of a run that the other place lacks, or has in another size.
    pub async fn copy_missing(&self, run: &str, to: &Self) -> Result<()> {
        let there: HashMap<String, u64> = to.sizes(run).await?.into_iter().collect();
        for (location, size) in self.sizes(run).await? {
            if there.get(&location) == Some(&size) {
                continue;
            }
            let location = Path::from(location);
            let contents = self.get(&location).await?;
            let put = to.store.put(&location, contents.into()).await;
            put.map_err(Error::file("write", &location))?;
        }
        Ok(())
    }

    async fn run_from_trials(&self, run: &str) -> Result<StoredRun> {
        let prefix = Path::from(run);
        let mut stored = StoredRun::default();
        stored.summary.run_id = run.to_owned();
        (stored.summary.results, stored.unreadable) = self.trials(run).await?;
        if stored.summary.results.is_empty() && stored.unreadable.is_empty() {
            return Err(self.missing(run, &prefix).await);
        }
        let results = &stored.summary.results;
        stored.summary.model = results.first().map(|trial| trial.model.clone()).unwrap_or_default();
        stored.summary.passed = stored.summary.tally().get("passed").copied().unwrap_or_default();
        Ok(stored)
    }

    /// A directory without results is a run without trials yet; no directory is no run.
    async fn missing(&self, run: &str, prefix: &Path) -> Error {
        match run.parse() {
            Ok(run) => Error::NoRun { run },
            Err(source) => Error::File {
                doing: "read",
                location: prefix.to_string(),
                source: Box::new(source),
            },
        }
    }

    /// All bytes below a run, as pairs of location and size.
    pub async fn sizes(&self, run: &str) -> Result<Vec<(String, u64)>> {
        let prefix = Path::from(run);
        let listed = self.store.list(Some(&prefix));
        let listed = listed.map_ok(|meta| (meta.location.to_string(), meta.size)).boxed();
        listed.try_collect().await.map_err(Error::file("list", &prefix))
    }

    async fn put_json(&self, location: &Path, value: &impl serde::Serialize) -> Result<()> {
        let malformed = |source| Error::Malformed { location: location.to_string(), source };
        let bytes = pretty(value).map_err(malformed)?;
        let put = self.store.put(location, bytes.into()).await;
        put.map_err(Error::file("write", location)).map(|_| ())
    }

    async fn get(&self, location: &Path) -> Result<Bytes> {
        let got = self.store.get(location).await.map_err(Error::file("read", location))?;
        got.bytes().await.map_err(Error::file("read", location))
    }
}
