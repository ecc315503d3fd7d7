//! Base backups of a running server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::Connection as _;

use super::cluster::{Cluster, SUPERUSER};
use super::error::{PostgresError, Result};
use super::roles;
use super::store::Base;
use crate::error::chain;
use crate::log::Log;

/// After one that failed.
const AGAIN: Duration = Duration::from_secs(60);

/// Makes them, one at a time.
pub(super) struct Backups {
    holder: String,
    one: tokio::sync::Mutex<()>,
}

/// A base backup that was made.
#[derive(Debug, serde::Serialize)]
pub(super) struct Made {
    pub(super) base: String,
    pub(super) bytes: u64,
}

impl Backups {
    pub(super) fn new(holder: &str) -> Self {
        Self { holder: holder.to_owned(), one: tokio::sync::Mutex::new(()) }
    }

    /// Makes one, and removes what it makes superfluous.
    pub(super) async fn make(&self, cluster: &Cluster) -> Result<Made> {
        self.make_and_spare(cluster, None).await
    }

    /// Makes one beside another, which stays even if it is old.
    pub(super) async fn make_beside(&self, cluster: &Cluster, other: &str) -> Result<Made> {
        self.make_and_spare(cluster, Some(other)).await
    }

    async fn make_and_spare(&self, cluster: &Cluster, spared: Option<&str>) -> Result<Made> {
        let _one = self.one.lock().await;
        let store = &cluster.store;
        let unfinished = store.base_path(&format!(".new-{}", &self.holder[..8]));
        if unfinished.exists() {
            // Of a try that failed.
            fs::remove_dir_all(&unfinished).map_err(PostgresError::file("remove", &unfinished))?;
        }
        fs::create_dir(&unfinished).map_err(PostgresError::file("make", &unfinished))?;
        cluster.own(&unfinished)?;
        let pgdata = format!("--pgdata={}", unfinished.display());
        let host = format!("--host={}", cluster.run_directory().display());
        let (port, user) =
            (format!("--port={}", cluster.spec.port), format!("--username={SUPERUSER}"));
        let fixed = ["--format=tar", "--gzip", "--wal-method=stream", "--checkpoint=fast"];
        let arguments = [pgdata.as_str(), &host, &port, &user, "--no-password"];
        cluster.run("pg_basebackup", arguments.into_iter().chain(fixed)).await?;
        let name = Base::new_name(Timestamp::now(), &self.holder);
        let finished = store.base_path(&name);
        fs::rename(&unfinished, &finished).map_err(PostgresError::file("name", &finished))?;
        let mut connection = cluster.connect(SUPERUSER, SUPERUSER).await?;
        let segment = roles::segment_bytes(&mut connection).await?;
        connection.close().await.map_err(PostgresError::sql("leave the server"))?;
        store.prune(segment, spared)?;
        Ok(Made { base: name, bytes: size(&finished) })
    }

    /// Makes one whenever the newest is too old; for ever.
    pub(super) async fn keep_making(&self, cluster: &Cluster, log: &Log) {
        loop {
            let pause = match cluster.store.bases() {
                Ok(bases) => due_in(bases.last(), cluster.spec.base_every, Timestamp::now()),
                Err(_) => AGAIN,
            };
            tokio::time::sleep(pause).await;
            match self.make(cluster).await {
                Ok(made) => {
                    log.say(format!("{}: base backup {} is made", cluster.spec.name, made.base));
                }
                Err(error) => {
                    let words = chain(&error);
                    log.say(format!("{}: no base backup: {words}", cluster.spec.name));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

fn due_in(newest: Option<&Base>, every: Duration, now: Timestamp) -> Duration {
    let Some(newest) = newest else { return Duration::ZERO };
    let age = Duration::try_from(now.duration_since(newest.time)).unwrap_or_default();
    every.saturating_sub(age)
}

fn size(directory: &PathBuf) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|it| it.len()).sum()
}
