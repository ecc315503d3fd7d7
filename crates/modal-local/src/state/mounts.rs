//! Mounts: sets of files of a client's machine, as lists of names and content hashes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modal_proto::client::DeploymentNamespace;
use sha2::{Digest as _, Sha256};
use sqlx::SqlitePool;
use tokio::sync::{RwLock, RwLockWriteGuard};

use super::cas::{Cas, Sha256Hash};
use super::creation::Creation;
use super::environments::Environment;
use super::volumes::path::VolumePath;
use crate::blocking;
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::MountId;
use crate::state_dir::StateDir;

/// The mode of files that come without one.
const DEFAULT_MODE: u32 = 0o644;

/// One file of a mount.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct MountFile {
    /// Where it is to be, from the root of the container; absolute.
    pub(crate) filename: String,
    pub(crate) sha256_hex: String,
    pub(crate) mode: u32,
    pub(crate) size: i64,
}

/// A mount's record.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct MountRecord {
    pub(crate) mount_id: String,
    /// The hash of all names, contents and modes: equal mounts have equal checksums.
    pub(crate) checksum: String,
}

/// The mounts of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Mounts {
    db: SqlitePool,
    dir: StateDir,
    cas: Cas,
    /// Shared while a directory is looked up, exclusive while unused ones are removed.
    trees: Arc<RwLock<()>>,
}

impl Mounts {
    pub(crate) fn new(db: SqlitePool, dir: StateDir, cas: Cas) -> Self {
        Self { db, dir, cas, trees: Arc::default() }
    }

    /// Keeps [`Mounts::tree`] waiting for as long as the guard lives.
    pub(crate) async fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.trees.write().await
    }

    /// Looks up or makes a mount. All contents must have been uploaded.
    pub(crate) async fn get_or_create(
        &self,
        environment: &Environment,
        namespace: DeploymentNamespace,
        creation: &Creation,
        files: Vec<MountFile>,
    ) -> Result<MountRecord> {
        let environment = match namespace {
            DeploymentNamespace::Global => None,
            _ => Some(environment.id.as_str()),
        };
        if let Creation::LookUp(name) = creation {
            let found = self.find(environment, name).await?;
            return found.ok_or_else(|| Error::not_found("mount", name));
        }
        let files = self.check(files).await?;
        match (creation, creation.name()) {
            (Creation::IfMissing(_), Some(name)) => {
                if let Some(record) = self.find(environment, name).await? {
                    return Ok(record);
                }
            }
            (Creation::Overwrite(_), Some(name)) => self.forget_name(environment, name).await?,
            _ => {}
        }
        self.insert(environment, creation, files).await
    }

    /// The files of a mount, by name.
    pub(crate) async fn files(&self, id: &MountId) -> Result<Vec<MountFile>> {
        self.get(id).await?;
        sqlx::query_as(
            "SELECT filename, sha256_hex, mode, size FROM mount_files WHERE mount_id = ?
             ORDER BY filename",
        )
        .bind(id.as_str())
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list the files of a mount"))
    }

    /// A directory with the mount's files in their places, to be read only. Mounts with equal files
    /// share one, and all share contents with the store.
    pub(crate) async fn tree(&self, id: &MountId) -> Result<PathBuf> {
        let _no_removal = self.trees.read().await;
        let record = self.get(id).await?;
        let files = self.files(id).await?;
        let (root, tmp, cas) = (self.dir.mounts(), self.dir.tmp(), self.cas.clone());
        blocking::run(move || {
            let target = root.join(&record.checksum);
            if !target.exists() {
                materialise(&target, &tmp, &cas, &files)?;
            }
            Ok(target)
        })
        .await
    }

    /// The name that a mount is looked up by, if it has one.
    pub(crate) async fn name_of(&self, id: &MountId) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT name FROM mounts WHERE mount_id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map(Option::flatten)
            .map_err(Error::database("look up a mount"))
    }

    /// One mount's record.
    pub(crate) async fn get(&self, id: &MountId) -> Result<MountRecord> {
        sqlx::query_as("SELECT mount_id, checksum FROM mounts WHERE mount_id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a mount"))?
            .ok_or_else(|| Error::not_found("mount", id))
    }

    /// Refuses what cannot be mounted; fills in sizes.
    async fn check(&self, mut files: Vec<MountFile>) -> Result<Vec<MountFile>> {
        let cas = self.cas.clone();
        blocking::run(move || {
            for file in &mut files {
                let path = VolumePath::parse(&file.filename)?;
                if path.names().is_empty() {
                    return Err(Error::invalid("a file of a mount has no name"));
                }
                file.filename = format!("/{path}");
                let hash = Sha256Hash::from_hex(&file.sha256_hex)?;
                file.sha256_hex = hash.to_string();
                let length = cas.contains(&hash).then(|| cas.length(&hash)).flatten();
                let length = length.ok_or_else(|| {
                    Error::Precondition(format!("`{}` has not been uploaded", file.filename))
                })?;
                file.size = i64::try_from(length).unwrap_or(i64::MAX);
            }
            files.sort_by(|a, b| a.filename.cmp(&b.filename));
            files.dedup_by(|later, earlier| later.filename == earlier.filename);
            check_directories(&files)?;
            Ok(files)
        })
        .await
    }

    async fn find(&self, environment: Option<&str>, name: &str) -> Result<Option<MountRecord>> {
        sqlx::query_as(
            "SELECT mount_id, checksum FROM mounts WHERE environment_id IS ? AND name = ?",
        )
        .bind(environment)
        .bind(name)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up a mount"))
    }

    /// The mount that had the name goes on without it: sandboxes may use it.
    async fn forget_name(&self, environment: Option<&str>, name: &str) -> Result<()> {
        sqlx::query(
            "UPDATE mounts SET name = NULL, expires_at = ? WHERE environment_id IS ? AND name = ?",
        )
        .bind(Creation::Ephemeral.unkept_expiry())
        .bind(environment)
        .bind(name)
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("replace a mount"))
    }

    async fn insert(
        &self,
        environment: Option<&str>,
        creation: &Creation,
        files: Vec<MountFile>,
    ) -> Result<MountRecord> {
        let failed = || Error::database("create a mount");
        let id = MountId::random();
        let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let done = sqlx::query(
            "INSERT INTO mounts
             (mount_id, environment_id, name, checksum, app_id, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(id.as_str())
        .bind(environment)
        .bind(creation.name())
        .bind(checksum(&files))
        .bind(creation.owner().map(|app| app.as_str()))
        .bind(clock::unique_now())
        .bind(creation.unkept_expiry())
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        if done.rows_affected() == 0 {
            transaction.rollback().await.map_err(failed())?;
            let name = creation.name().unwrap_or_default();
            return match (creation, self.find(environment, name).await?) {
                (Creation::IfMissing(_), Some(record)) => Ok(record),
                _ => Err(Error::already_exists("mount", name)),
            };
        }
        for file in &files {
            sqlx::query("INSERT INTO mount_files VALUES (?, ?, ?, ?, ?)")
                .bind(id.as_str())
                .bind(&file.filename)
                .bind(&file.sha256_hex)
                .bind(file.mode)
                .bind(file.size)
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())?;
        self.get(&id).await
    }
}

impl MountFile {
    /// From the parts that a request has; its size is filled in later.
    pub(crate) fn new(filename: &str, sha256_hex: &str, mode: Option<u32>) -> Self {
        let mode = match mode.unwrap_or(0) & 0o777 {
            0 => DEFAULT_MODE,
            mode => mode,
        };
        Self { filename: filename.to_owned(), sha256_hex: sha256_hex.to_owned(), mode, size: 0 }
    }
}

/// Refuses a file in whose place others need a directory.
fn check_directories(files: &[MountFile]) -> Result<()> {
    let names: HashSet<&str> = files.iter().map(|file| file.filename.as_str()).collect();
    for MountFile { filename, .. } in files {
        let mut directory = filename.as_str();
        while let Some((parent, _)) = directory.rsplit_once('/') {
            if names.contains(parent) {
                return Err(Error::invalid(format!(
                    "`{parent}` is a file of the mount, so `{filename}` can't lie in it"
                )));
            }
            directory = parent;
        }
    }
    Ok(())
}

fn checksum(files: &[MountFile]) -> String {
    let mut hash = Sha256::new();
    for MountFile { filename, sha256_hex, mode, .. } in files {
        hash.update(format!("{filename}\0{sha256_hex}\0{mode:o}\n"));
    }
    hex::encode(hash.finalize())
}

/// Makes the directory beside its place, then moves it there in one step.
fn materialise(target: &Path, tmp: &Path, cas: &Cas, files: &[MountFile]) -> Result<()> {
    let staged = tempfile::Builder::new()
        .prefix("mount")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(tmp)
        .map_err(Error::file("create a directory in", tmp))?;
    for file in files {
        let hash = Sha256Hash::from_hex(&file.sha256_hex)?;
        let path = staged.path().join(file.filename.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        }
        link_or_copy(&cas.path_of(&hash), &path, file.mode)?;
    }
    match fs::rename(staged.path(), target) {
        Ok(()) => {
            let _ = staged.keep();
            Ok(())
        }
        // Another call made the same directory meanwhile.
        Err(_) if target.exists() => Ok(()),
        Err(error) => Err(Error::file("create", target)(error)),
    }
}

/// A plain file shares its inode with the store. Another mode needs an inode of its own.
fn link_or_copy(content: &Path, path: &Path, mode: u32) -> Result<()> {
    let readable_only = mode & 0o111 == 0;
    if readable_only && fs::hard_link(content, path).is_ok() {
        return Ok(());
    }
    fs::copy(content, path).map_err(Error::file("copy", content))?;
    let mode = fs::Permissions::from_mode(mode | 0o444);
    fs::set_permissions(path, mode).map_err(Error::file("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_depends_on_names_contents_and_modes() {
        let file = |name, mode| MountFile::new(name, &Sha256Hash::of(b"x").to_string(), mode);
        let sum = |name, mode| checksum(&[file(name, mode)]);
        assert_eq!(sum("/a", None), sum("/a", Some(0o644)));
        assert_ne!(sum("/a", None), sum("/b", None));
        assert_ne!(sum("/a", None), sum("/a", Some(0o755)));
    }

    #[test]
    fn a_file_is_no_directory_of_another() {
        let check = |names: &[&str]| {
            let files: Vec<_> = names.iter().map(|name| MountFile::new(name, "", None)).collect();
            check_directories(&files)
        };
        check(&["/a", "/a-b", "/b/a", "/b/c"]).unwrap();
        let refused = check(&["/a", "/a-b", "/a/b/c"]).unwrap_err().to_string();
        assert!(refused.contains("`/a` is a file") && refused.contains("`/a/b/c`"), "{refused}");
    }

    #[test]
    fn a_materialised_mount_keeps_modes_and_leaves_the_store_alone() {
        let dir = tempfile::tempdir().unwrap();
        for part in ["cas", "tmp"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let cas = Cas::new(dir.path().join("cas"), dir.path().join("tmp"));
        let hash = cas.put_bytes(b"#!/bin/sh\n").unwrap();
        let file = |name, mode| MountFile::new(name, &hash.to_string(), Some(mode));
        let files = [file("/opt/run", 0o755), file("/opt/text", 0o600)];
        let target = dir.path().join("made");
        materialise(&target, &dir.path().join("tmp"), &cas, &files).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&target.join("opt/run")), 0o755);
        assert_eq!(mode(&target.join("opt/text")), 0o444);
        assert_eq!(mode(&cas.path_of(&hash)), 0o444);
        materialise(&target, &dir.path().join("tmp"), &cas, &files).unwrap();
    }
}
