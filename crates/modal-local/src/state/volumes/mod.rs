//! Volumes: records in the database, files in plain directories.
//!
//! The truth of a volume is its directory `volumes/<id>/tree`. Sandboxes have it mounted and write
//! to it while clients upload and download. Beside it lies `staging`, on the same file system, where
//! files are put together before they are moved to their place.

pub(crate) mod entries;
mod known;
pub(crate) mod path;
pub(crate) mod tree;
pub(crate) mod upload;

use std::fs;
use std::path::{Path, PathBuf};

use modal_proto::client::VolumeFsVersion;
use prost::Message;
use sqlx::SqlitePool;

use self::known::KnownBlocks;
use self::path::VolumePath;
use self::tree::Tree;
use self::upload::{FileSpec, Workshop};
use super::cas::Cas;
use super::creation::{Creation, Page, heartbeat_expiry};
use super::environments::Environment;
use crate::blocking;
use crate::clock;
use crate::durable;
use crate::error::{Error, Result};
use crate::idempotency::{begin, begun, change};
use crate::ids::VolumeId;
use crate::state_dir::StateDir;

/// Where files of a volume are put together.
const STAGING: &str = "staging";

/// What calls write down when they begin: none of the files that are to be new is there;
const NOTHING_THERE: &str = "nothing there";
/// what is to be removed may still be in its place;
const IN_ITS_PLACE: &str = "in its place";
/// what is copied goes into a directory;
const INTO_DIRECTORY: &str = "into directory";
/// or it gets the name of the target.
const ONTO: &str = "onto";

/// What the table has in place of a version for a network file system, which is of no version.
const NETWORK_FILE_SYSTEM: i32 = -1;

/// What is made: network file systems are kept like volumes, and share their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of this version; 2 if the client does not say.
    Volume(VolumeFsVersion),
    NetworkFileSystem,
}

impl Kind {
    /// The RPC that makes it.
    fn rpc(self) -> &'static str {
        match self {
            Self::Volume(_) => "volume_get_or_create",
            Self::NetworkFileSystem => "shared_volume_get_or_create",
        }
    }

    fn to_column(self) -> i32 {
        match self {
            Self::Volume(VolumeFsVersion::V1) => VolumeFsVersion::V1 as i32,
            Self::Volume(VolumeFsVersion::Unspecified | VolumeFsVersion::V2) => {
                VolumeFsVersion::V2 as i32
            }
            Self::NetworkFileSystem => NETWORK_FILE_SYSTEM,
        }
    }
}

/// A volume's record.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct VolumeRecord {
    pub(crate) volume_id: String,
    pub(crate) name: Option<String>,
    pub(crate) version: i32,
    pub(crate) created_at: f64,
}

impl VolumeRecord {
    /// Whether it is a network file system.
    pub(crate) fn is_network_file_system(&self) -> bool {
        self.version == NETWORK_FILE_SYSTEM
    }
}

/// The volumes of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Volumes {
    db: SqlitePool,
    dir: StateDir,
    cas: Cas,
    known: KnownBlocks,
}

impl Volumes {
    pub(crate) fn new(db: SqlitePool, dir: StateDir, cas: Cas) -> Self {
        Self { db, dir, cas, known: KnownBlocks::default() }
    }

    /// The hashes of blocks that need not be computed.
    pub(crate) fn known_blocks(&self) -> &KnownBlocks {
        &self.known
    }

    /// Removes what an earlier server was putting together when it was killed.
    pub(crate) async fn discard_leftovers(&self) -> Result<()> {
        let root = self.dir.volumes();
        blocking::run(move || {
            let read = |path: &Path| fs::read_dir(path).map_err(Error::file("read", path));
            for volume in read(&root)? {
                let staging = volume.map_err(Error::file("read", &root))?.path().join(STAGING);
                if !staging.is_dir() {
                    continue;
                }
                for entry in read(&staging)? {
                    crate::gc::remove_any(&entry.map_err(Error::file("read", &staging))?.path())?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Looks up or makes a volume. One that is there is answered whatever its kind. `answer` is what the client of a
    /// new one is told, also if it asks again after the server was killed.
    pub(crate) async fn get_or_create<M: Message>(
        &self,
        environment: &Environment,
        creation: &Creation,
        kind: Kind,
        answer: impl Fn(&VolumeRecord) -> M,
    ) -> Result<VolumeRecord> {
        match creation {
            Creation::LookUp(name) => {
                self.find(environment, name).await?.ok_or_else(|| not_found(name, environment))
            }
            Creation::IfMissing(name) => match self.find(environment, name).await? {
                Some(record) => Ok(record),
                None => self.insert(environment, creation, kind, answer).await,
            },
            Creation::Overwrite(_) => {
                Err(Error::invalid("a volume cannot be overwritten; delete it and create it anew"))
            }
            _ => self.insert(environment, creation, kind, answer).await,
        }
    }

    /// One volume's record.
    pub(crate) async fn get(&self, id: &VolumeId) -> Result<VolumeRecord> {
        sqlx::query_as(
            "SELECT volume_id, name, version, created_at FROM volumes WHERE volume_id = ?",
        )
        .bind(id.as_str())
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up a volume"))?
        .ok_or_else(|| Error::not_found("volume", id))
    }

    /// The named volumes of an environment, newest first.
    pub(crate) async fn list(
        &self,
        environment: &Environment,
        page: Page,
    ) -> Result<Vec<VolumeRecord>> {
        sqlx::query_as(
            "SELECT volume_id, name, version, created_at FROM volumes
             WHERE environment_id = ? AND name IS NOT NULL AND version <> ? AND created_at < ?
             ORDER BY created_at DESC LIMIT ?",
        )
        .bind(&environment.id)
        .bind(NETWORK_FILE_SYSTEM)
        .bind(page.created_before)
        .bind(page.limit)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list volumes"))
    }

    /// The named network file systems of an environment, newest first.
    pub(crate) async fn network_file_systems(
        &self,
        environment: &Environment,
    ) -> Result<Vec<VolumeRecord>> {
        sqlx::query_as(
            "SELECT volume_id, name, version, created_at FROM volumes
             WHERE environment_id = ? AND name IS NOT NULL AND version = ? ORDER BY created_at DESC",
        )
        .bind(&environment.id)
        .bind(NETWORK_FILE_SYSTEM)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list network file systems"))
    }

    /// Gives a volume another name.
    pub(crate) async fn rename(&self, id: &VolumeId, name: &str) -> Result<()> {
        super::creation::check_name(name)?;
        self.get(id).await?;
        let update = sqlx::query("UPDATE volumes SET name = ? WHERE volume_id = ?")
            .bind(name)
            .bind(id.as_str());
        match update.execute(&self.db).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(Error::already_exists("volume", name))
            }
            other => other.map(drop).map_err(Error::database("rename a volume")),
        }
    }

    /// Keeps an ephemeral volume for a while longer.
    pub(crate) async fn heartbeat(&self, id: &VolumeId) -> Result<()> {
        self.get(id).await?;
        sqlx::query(
            "UPDATE volumes SET expires_at = ? WHERE volume_id = ? AND expires_at IS NOT NULL",
        )
        .bind(heartbeat_expiry())
        .bind(id.as_str())
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("keep a volume"))
    }

    /// Removes the record and moves the files to the trash: sandboxes that have the volume mounted
    /// keep them until the garbage collector comes, which waits for those.
    pub(crate) async fn delete(&self, id: &VolumeId) -> Result<()> {
        let is_network = self.get(id).await?.is_network_file_system();
        let rpc = if is_network { "shared_volume_delete" } else { "volume_delete" };
        let delete = sqlx::query("DELETE FROM volumes WHERE volume_id = ?").bind(id.as_str());
        let deleted = change(&self.db, rpc, &(), delete).await;
        deleted.map_err(Error::database("delete a volume"))?;
        let (from, to) = (self.root(id), self.dir.trash().join(id.as_str()));
        blocking::run(move || std::fs::rename(&from, to).map_err(Error::file("remove", &from)))
            .await
    }

    /// To be mounted: the directory of a volume, and below it the path of a directory, which is made
    /// if missing. Sandboxes can replace that one with a link at any moment, so whoever enters it
    /// must refuse links.
    pub(crate) async fn directory(
        &self,
        id: &VolumeId,
        sub_path: &str,
    ) -> Result<(PathBuf, PathBuf)> {
        let sub_path = VolumePath::parse(sub_path)?;
        let tree = self.tree(id).await?;
        blocking::run(move || {
            tree.make_directory(sub_path.names())?;
            Ok((tree.location().to_owned(), PathBuf::from(sub_path.to_string())))
        })
        .await
    }

    /// The volume's files.
    pub(crate) async fn tree(&self, id: &VolumeId) -> Result<Tree> {
        self.get(id).await?;
        let path = self.tree_path(id);
        blocking::run(move || Tree::open(&path)).await
    }

    /// Whether files may replace others. Where the client forbids it none may exist, unless an earlier
    /// attempt of the same call has put them there.
    pub(crate) async fn may_replace(
        &self,
        id: &VolumeId,
        files: &[FileSpec],
        overwrite: bool,
    ) -> Result<bool> {
        if overwrite || begun(&self.db).await?.is_some() {
            return Ok(true);
        }
        let (tree, files) = (self.tree(id).await?, files.to_vec());
        blocking::run(move || upload::check_new(&tree, &files)).await?;
        Ok(false)
    }

    /// Writes files whose blocks are all in the store. Either none may exist, or they are replaced.
    pub(crate) async fn put_files(
        &self,
        id: &VolumeId,
        files: Vec<FileSpec>,
        overwrite: bool,
    ) -> Result<()> {
        if !overwrite {
            begin(&self.db, NOTHING_THERE).await?;
        }
        let (tree, staging) = (self.tree(id).await?, self.staging(id));
        let (cas, known) = (self.cas.clone(), self.known.clone());
        blocking::run(move || {
            let workshop = Workshop { staging: &staging, cas: &cas, known: &known };
            upload::assemble(&tree, &workshop, &files, overwrite)?;
            cas.release(files.iter().flat_map(|file| file.blocks.iter().copied()));
            Ok(())
        })
        .await
    }

    /// Removes a file, or a directory if `recursive`.
    pub(crate) async fn remove_file(
        &self,
        id: &VolumeId,
        path: &str,
        recursive: bool,
    ) -> Result<()> {
        let (tree, path, trash) =
            (self.tree(id).await?, VolumePath::parse(path)?, self.dir.trash());
        let was_begun = begun(&self.db).await?.is_some();
        if let Err(error) = begin(&self.db, IN_ITS_PLACE).await {
            // A disk without a free byte takes no record, and needs the removal all the more.
            tracing::warn!(%error, "a repeated removal would not be known");
        }
        match blocking::run(move || entries::remove(&tree, &path, recursive, &trash)).await {
            Err(Error::NotFound { .. }) if was_begun => Ok(()),
            done => done,
        }
    }

    /// Copies files within a volume, like `cp`.
    pub(crate) async fn copy_files(
        &self,
        id: &VolumeId,
        sources: &[String],
        target: &str,
        recursive: bool,
    ) -> Result<()> {
        let (tree, staging) = (self.tree(id).await?, self.staging(id));
        let sources = sources.iter().map(|it| VolumePath::parse(it)).collect::<Result<Vec<_>>>()?;
        let (to, must_be_directory) = (VolumePath::parse(target)?, target.ends_with('/'));
        let into = match begun(&self.db).await? {
            Some(plan) => plan == INTO_DIRECTORY,
            None => {
                let (tree, to, several) = (tree.clone(), to.clone(), sources.len() > 1);
                let find = move || entries::goes_into(&tree, &to, several || must_be_directory);
                blocking::run(find).await?
            }
        };
        begin(&self.db, if into { INTO_DIRECTORY } else { ONTO }).await?;
        blocking::run(move || entries::copy(&tree, &staging, &sources, &to, into, recursive)).await
    }

    async fn find(&self, environment: &Environment, name: &str) -> Result<Option<VolumeRecord>> {
        sqlx::query_as("SELECT volume_id, name, version, created_at FROM volumes WHERE environment_id = ? AND name = ?")
            .bind(&environment.id)
            .bind(name)
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a volume"))
    }

    async fn insert<M: Message>(
        &self,
        environment: &Environment,
        creation: &Creation,
        kind: Kind,
        answer: impl Fn(&VolumeRecord) -> M,
    ) -> Result<VolumeRecord> {
        let id = VolumeId::random();
        let record = VolumeRecord {
            volume_id: id.to_string(),
            name: creation.name().map(str::to_owned),
            version: kind.to_column(),
            created_at: clock::unique_now(),
        };
        self.make_directories(&id).await?;
        let insert = sqlx::query(
            "INSERT INTO volumes
             (volume_id, environment_id, name, version, app_id, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (environment_id, name) DO NOTHING",
        )
        .bind(id.as_str())
        .bind(&environment.id)
        .bind(creation.name())
        .bind(record.version)
        .bind(creation.owner().map(|app| app.as_str()))
        .bind(record.created_at)
        .bind(creation.expiry());
        let made = change(&self.db, kind.rpc(), &answer(&record), insert).await;
        if made.map_err(Error::database("create a volume"))? == 1 {
            return Ok(record);
        }
        let root = self.root(&id);
        blocking::run(move || std::fs::remove_dir_all(&root).map_err(Error::file("remove", &root)))
            .await?;
        let name = creation.name().unwrap_or_default();
        match (creation, self.find(environment, name).await?) {
            (Creation::IfMissing(_), Some(record)) => Ok(record),
            _ => Err(Error::already_exists("volume", name)),
        }
    }

    async fn make_directories(&self, id: &VolumeId) -> Result<()> {
        let (root, tree, staging) = (self.root(id), self.tree_path(id), self.staging(id));
        blocking::run(move || {
            durable::create_dir(&root, 0o700)?;
            durable::create_dir(&tree, 0o755)?;
            durable::create_dir(&staging, 0o700)
        })
        .await
    }

    fn root(&self, id: &VolumeId) -> PathBuf {
        self.dir.volumes().join(id.as_str())
    }

    fn tree_path(&self, id: &VolumeId) -> PathBuf {
        self.root(id).join("tree")
    }

    fn staging(&self, id: &VolumeId) -> PathBuf {
        self.root(id).join(STAGING)
    }
}

fn not_found(name: &str, environment: &Environment) -> Error {
    Error::not_found_in("volume", name, ("environment", &environment.name))
}
