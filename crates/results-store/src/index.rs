//! This machine's list of runs.

use std::{path::Path, time::Duration};

use eval_types::{Attempt, Outcome, Run, RunId, Trial, TrialKey};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    Error, Result,
    cause::{self, Cause},
};

/// How long a writer waits for another process.
const BUSY: Duration = Duration::from_secs(20);

/// Runs, trials and attempts in one SQLite file, shared by every process of this machine.
#[derive(Clone, Debug)]
pub struct Index {
    pool: SqlitePool,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRow {
    /// What was asked for.
    pub run: Run,
    /// How many trials ended how, by name of the outcome.
    pub outcomes: std::collections::BTreeMap<String, usize>,
}

/// An attempt whose sandbox was made and whose end was never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAttempt {
    /// Which trial.
    pub key: TrialKey,
    /// Which attempt, from 1.
    pub number: u32,
    /// Its sandbox.
    pub sandbox: String,
}

/// An attempt as far as the index knows it, whose trial may never have been written.
#[derive(Clone, Debug, PartialEq)]
pub struct TriedAttempt {
    /// Which trial.
    pub key: TrialKey,
    /// The attempt.
    pub attempt: Attempt,
}

impl Index {
    /// Opens the file, makes it where there is none, and brings it up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true);
        let failed =
            |source| Error::OpenIndex { path: path.to_owned(), source: cause::of_sqlx(source) };
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await;
        let pool = pool.map_err(failed)?;
        let migrated = sqlx::migrate!().run(&pool).await;
        migrated.map_err(|source| Error::OpenIndex {
            path: path.to_owned(),
            source: Cause(source.into()).into(),
        })?;
        Ok(Self { pool })
    }

    /// Writes a run that begins. A second run of that name is an error.
    pub async fn begin(&self, run: &Run) -> Result<()> {
        sqlx::query(
            "INSERT INTO runs (id, started_at, target, model, model_source, total_trials, record)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(run.id.as_str())
        .bind(run.started_at.to_string())
        .bind(&run.target)
        .bind(&run.model)
        .bind(run.model_source.name())
        .bind(count(run.total_trials))
        .bind(json(run)?)
        .execute(&self.pool)
        .await
        .map_err(Error::index("write"))?;
        Ok(())
    }

    /// Writes the trials that a run is to make, each as it is where nothing becomes of it.
    pub async fn plan(&self, run: &RunId, trials: &[Trial]) -> Result<()> {
        let mut all = self.pool.begin().await.map_err(Error::index("write"))?;
        for trial in trials {
            sqlx::query(
                "INSERT INTO planned (run_id, task, variant, epoch, record) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(run.as_str())
            .bind(trial.key.task.as_str())
            .bind(trial.key.variant.name())
            .bind(trial.key.epoch)
            .bind(json(trial)?)
            .execute(&mut *all)
            .await
            .map_err(Error::index("write"))?;
        }
        all.commit().await.map_err(Error::index("write"))
    }

    /// The trials that a run was to make, in its order.
    pub async fn planned(&self, run: &RunId) -> Result<Vec<Trial>> {
        let rows = sqlx::query("SELECT record FROM planned WHERE run_id = ? ORDER BY rowid")
            .bind(run.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(Error::index("read"))?;
        rows.iter().map(|row| record("planned trial", row)).collect()
    }

    /// Writes that an attempt has a sandbox, before anything runs in it.
    pub async fn attempt_started(
        &self,
        run: &RunId,
        key: &TrialKey,
        number: u32,
        sandbox: &str,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO attempts (run_id, task, variant, epoch, number, sandbox, started_at)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET sandbox = excluded.sandbox",
        )
        .bind(run.as_str())
        .bind(key.task.as_str())
        .bind(key.variant.name())
        .bind(key.epoch)
        .bind(number)
        .bind(sandbox)
        .bind(Timestamp::now().to_string())
        .execute(&self.pool)
        .await
        .map_err(Error::index("write"))?;
        Ok(())
    }

    /// Writes how an attempt ended, once its sandbox is gone.
    pub async fn attempt_ended(
        &self,
        run: &RunId,
        key: &TrialKey,
        number: u32,
        outcome: &Outcome,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE attempts SET outcome = ?
             WHERE run_id = ? AND task = ? AND variant = ? AND epoch = ? AND number = ?",
        )
        .bind(outcome.name())
        .bind(run.as_str())
        .bind(key.task.as_str())
        .bind(key.variant.name())
        .bind(key.epoch)
        .bind(number)
        .execute(&self.pool)
        .await
        .map_err(Error::index("write"))?;
        Ok(())
    }

    /// Writes a trial that ended.
    pub async fn record_trial(&self, run: &RunId, trial: &Trial) -> Result<()> {
        sqlx::query(
            "INSERT INTO trials (run_id, task, variant, epoch, outcome, score, elapsed_s, record)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET outcome = excluded.outcome, score = excluded.score,
                 elapsed_s = excluded.elapsed_s, record = excluded.record",
        )
        .bind(run.as_str())
        .bind(trial.key.task.as_str())
        .bind(trial.key.variant.name())
        .bind(trial.key.epoch)
        .bind(trial.outcome.name())
        .bind(trial.outcome.score())
        .bind(trial.elapsed_s)
        .bind(json(trial)?)
        .execute(&self.pool)
        .await
        .map_err(Error::index("write"))?;
        Ok(())
    }

    /// Writes where a file of a run lies.
    pub async fn record_artifact(&self, run: &RunId, location: &str, size: usize) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO artifacts (run_id, location, size) VALUES (?, ?, ?)")
            .bind(run.as_str())
            .bind(location)
            .bind(count(size))
            .execute(&self.pool)
            .await
            .map_err(Error::index("write"))?;
        Ok(())
    }

    /// Writes that a run ended; `run.finished_at` says when.
    pub async fn finish(&self, run: &Run) -> Result<()> {
        sqlx::query("UPDATE runs SET finished_at = ?, record = ? WHERE id = ?")
            .bind(run.finished_at.map(|time| time.to_string()))
            .bind(json(run)?)
            .bind(run.id.as_str())
            .execute(&self.pool)
            .await
            .map_err(Error::index("write"))?;
        Ok(())
    }

    /// Writes what is known of a run by now. It stays among the unfinished ones.
    pub async fn update(&self, run: &Run) -> Result<()> {
        sqlx::query("UPDATE runs SET record = ? WHERE id = ?")
            .bind(json(run)?)
            .bind(run.id.as_str())
            .execute(&self.pool)
            .await
            .map_err(Error::index("write"))?;
        Ok(())
    }

    /// Runs, newest first.
    pub async fn runs(&self, limit: u32) -> Result<Vec<RunRow>> {
        let rows = sqlx::query("SELECT record FROM runs ORDER BY started_at DESC, id DESC LIMIT ?")
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(Error::index("read"))?;
        let mut runs = Vec::with_capacity(rows.len());
        for row in rows {
            let run: Run = record("run", &row)?;
            let outcomes = self.outcomes(&run.id).await?;
            runs.push(RunRow { run, outcomes });
        }
        Ok(runs)
    }

    /// Runs that began and never ended: going on, or killed.
    pub async fn unfinished(&self) -> Result<Vec<Run>> {
        let rows = sqlx::query("SELECT record FROM runs WHERE finished_at IS NULL")
            .fetch_all(&self.pool)
            .await
            .map_err(Error::index("read"))?;
        rows.iter().map(|row| record("run", row)).collect()
    }

    /// One run with its trials, in the order they ended.
    pub async fn run(&self, id: &RunId) -> Result<(Run, Vec<Trial>)> {
        let row = sqlx::query("SELECT record FROM runs WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(Error::index("read"))?;
        let row = row.ok_or_else(|| Error::NoRun { run: id.clone() })?;
        let trials = sqlx::query("SELECT record FROM trials WHERE run_id = ? ORDER BY rowid")
            .bind(id.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(Error::index("read"))?;
        let trials = trials.iter().map(|row| record("trial", row)).collect::<Result<_>>()?;
        Ok((record("run", &row)?, trials))
    }

    /// Attempts of a run whose end was never written.
    pub async fn open_attempts(&self, id: &RunId) -> Result<Vec<OpenAttempt>> {
        let rows = sqlx::query(
            "SELECT json_object('task', task, 'variant', variant, 'epoch', epoch) AS record,
                    number, sandbox
             FROM attempts WHERE run_id = ? AND outcome IS NULL",
        )
        .bind(id.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(Error::index("read"))?;
        let open = rows.iter().map(|row| {
            let key = record("trial's name", row)?;
            let number = row.try_get("number").map_err(Error::index("read"))?;
            let sandbox = row.try_get("sandbox").map_err(Error::index("read"))?;
            Ok(OpenAttempt { key, number, sandbox })
        });
        open.collect()
    }

    /// Attempts of a run that had a sandbox, in order. One whose end was never written was cancelled
    /// by the end of its process.
    pub async fn attempts(&self, id: &RunId) -> Result<Vec<TriedAttempt>> {
        let rows = sqlx::query(
            "SELECT json_object('task', task, 'variant', variant, 'epoch', epoch) AS record,
                    number, sandbox, started_at, outcome
             FROM attempts WHERE run_id = ? ORDER BY task, variant, epoch, number",
        )
        .bind(id.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(Error::index("read"))?;
        rows.iter().map(tried).collect()
    }

    async fn outcomes(&self, id: &RunId) -> Result<std::collections::BTreeMap<String, usize>> {
        let rows = sqlx::query(
            "SELECT outcome, count(*) AS n FROM trials WHERE run_id = ? GROUP BY outcome",
        )
        .bind(id.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(Error::index("read"))?;
        let pairs = rows.iter().map(|row| {
            let name: String = row.try_get("outcome").map_err(Error::index("read"))?;
            let n: i64 = row.try_get("n").map_err(Error::index("read"))?;
            Ok((name, usize::try_from(n).unwrap_or_default()))
        });
        pairs.collect()
    }
}

fn tried(row: &sqlx::sqlite::SqliteRow) -> Result<TriedAttempt> {
    let read = Error::index;
    let outcome: Option<String> = row.try_get("outcome").map_err(read("read"))?;
    let outcome = outcome.and_then(|name| Outcome::from_name(&name, None));
    let started_at: String = row.try_get("started_at").map_err(read("read"))?;
    let attempt = Attempt {
        number: row.try_get("number").map_err(read("read"))?,
        sandbox: Some(row.try_get("sandbox").map_err(read("read"))?),
        outcome: outcome.unwrap_or(Outcome::Cancelled),
        reason: None,
        started_at: started_at.parse().unwrap_or_default(),
        elapsed_s: 0.0,
        exit_code: None,
        cleanup_error: None,
        trace_id: None,
    };
    Ok(TriedAttempt { key: record("trial's name", row)?, attempt })
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|source| Error::Record { what: "record", source })
}

fn record<T: DeserializeOwned>(what: &'static str, row: &sqlx::sqlite::SqliteRow) -> Result<T> {
    let text: String = row.try_get("record").map_err(Error::index("read"))?;
    serde_json::from_str(&text).map_err(|source| Error::Record { what, source })
}
