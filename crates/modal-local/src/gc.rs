//! Garbage: what no record names any more.
//!
//! Contents go when neither a mount nor a blob names them and nobody has asked for them for hours:
//! an upload may be between its blocks and its files. What a container may have mounted (deleted
//! volumes, directories of mounts) goes only while none runs. Layers that a container runs on are
//! leased (`image::Lease`); what functions name stays as long as their app
//! (`References`), however old it is.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blocking;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::calls::Input;
use crate::function::references::References;
use crate::ids::{SecretId, VolumeId};
use crate::logs::Retention;
use crate::removal;
use crate::state::cas::CONTENT_AGE;
use crate::state::collections;

/// Directories that no record names (yet) are kept for this long: one may be in the making.
const ORPHAN_AGE: Duration = Duration::from_secs(3_600);
/// Blobs are kept for this long; what needs one longer has copied it.
const BLOB_AGE: Duration = Duration::from_secs(7 * 86_400);
/// What a stopped app owned is kept for this long.
const OWNED_AGE: f64 = 3_600.0;

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Secrets, volumes, mounts, dicts and queues without a name that had expired or whose app is
    /// stopped, and entries of dicts and partitions of queues whose time was over.
    pub objects: u64,
    /// Cached layers of images.
    pub layers: u64,
    /// File contents.
    pub contents: u64,
    /// Files and directories that had been deleted, and directories that nobody named.
    pub directories: u64,
    /// Log lines.
    pub log_lines: u64,
    /// Freed space, as far as it is known.
    pub bytes: u64,
}

/// How much is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thoroughness {
    /// What can never be used again.
    Regular,
    /// Also layers of images that would only spare work in builds to come, and logs of yesterday.
    CachedLayers,
}

impl Thoroughness {
    fn logs(self) -> Retention {
        match self {
            Self::Regular => Retention::USUAL,
            Self::CachedLayers => Retention::SMALL,
        }
    }
}

/// Collects once.
pub(crate) async fn collect(ctx: &Ctx, thoroughness: Thoroughness) -> Result<Collected> {
    let _no_new_trees = ctx.mounts.pause().await;
    let is_quiet = ctx.is_quiet();
    let functions = References::of_functions(&ctx.db).await?;
    let mut collected = Collected::default();
    collected.objects += ctx.images.forget_deleted(&functions.images).await?;
    if thoroughness == Thoroughness::CachedLayers {
        collected.layers += ctx.images.collect_garbage().await? as u64;
    }
    if is_quiet {
        collected.objects += end_expired(ctx, &functions).await?;
    }
    collected.objects += collections::end_expired(&ctx.db).await?;
    collected.objects += ctx.dicts.forget_unused().await?;
    collected.objects += ctx.queues.forget_expired().await?;
    collected.contents += forget_blobs(ctx).await?;
    collected.objects += ctx.functions.calls.forget_old().await?;
    let logs = ctx.logs.trim(thoroughness.logs()).await?;
    collected.log_lines += logs.lines;
    collected.bytes += logs.bytes;
    let mounts = names(ctx, "SELECT checksum FROM mounts").await?;
    let volumes = names(ctx, "SELECT volume_id FROM volumes").await?;
    let secrets = names(ctx, "SELECT secret_id || '.json' FROM secrets").await?;
    let contents = contents_in_use(ctx).await?;
    let (dir, cas) = (ctx.dir.clone(), ctx.cas.root().to_owned());
    let swept = blocking::run(move || {
        let mut swept = Collected::default();
        sweep_trash(&dir.trash(), is_quiet, &mut swept)?;
        sweep_orphans(&dir.secrets(), &secrets, &mut swept)?;
        if is_quiet {
            sweep_orphans(&dir.volumes(), &volumes, &mut swept)?;
            sweep_orphans(&dir.mounts(), &mounts, &mut swept)?;
        }
        sweep_contents(&cas, &contents, CONTENT_AGE, &mut swept)?;
        sweep_old(&dir.parts(), BLOB_AGE, &mut swept)?;
        Ok(swept)
    })
    .await?;
    collected.contents += swept.contents;
    collected.directories += swept.directories;
    collected.bytes += swept.bytes;
    Ok(collected)
}

/// Removes what was deleted.
pub(crate) async fn empty_trash(ctx: &Ctx) -> Result<Collected> {
    let (trash, is_quiet) = (ctx.dir.trash(), ctx.is_quiet());
    blocking::run(move || {
        let mut swept = Collected::default();
        sweep_trash(&trash, is_quiet, &mut swept)?;
        Ok(swept)
    })
    .await
}

async fn names(ctx: &Ctx, query: &'static str) -> Result<HashSet<String>> {
    let names: Vec<String> = sqlx::query_scalar(query)
        .fetch_all(&ctx.db)
        .await
        .map_err(Error::database("collect garbage"))?;
    Ok(names.into_iter().collect())
}

/// The hashes of contents that something names: files of mounts, blobs, parts of blobs under way,
/// and files of builds that are to be begun anew.
async fn contents_in_use(ctx: &Ctx) -> Result<HashSet<String>> {
    let mut contents = names(
        ctx,
        "SELECT sha256_hex FROM mount_files
         UNION SELECT sha256_hex FROM blobs WHERE sha256_hex IS NOT NULL",
    )
    .await?;
    contents.extend(ctx.images.context_of_builds().await?);
    contents.extend(ctx.blobs.parts_under_way().await?);
    Ok(contents)
}

/// Deletes objects without a name that have expired or whose app has been stopped for a while, but
/// none that a function names.
async fn end_expired(ctx: &Ctx, functions: &References) -> Result<u64> {
    let mut ended = 0;
    for id in expired(ctx, "SELECT secret_id FROM secrets", &functions.secrets).await? {
        ctx.secrets.delete(&SecretId::parse(&id)?).await?;
        ended += 1;
    }
    for id in expired(ctx, "SELECT volume_id FROM volumes", &functions.volumes).await? {
        ctx.volumes.delete(&VolumeId::parse(&id)?).await?;
        ended += 1;
    }
    for id in expired(ctx, "SELECT mount_id FROM mounts", &functions.mounts).await? {
        sqlx::query("DELETE FROM mounts WHERE mount_id = ?")
            .bind(id)
            .execute(&ctx.db)
            .await
            .map_err(Error::database("collect garbage"))?;
        ended += 1;
    }
    Ok(ended)
}

/// The ids of those that have expired, or whose app has been stopped for a while.
async fn expired(ctx: &Ctx, select: &'static str, named: &BTreeSet<String>) -> Result<Vec<String>> {
    let query = format!(
        "{select} WHERE expires_at < ?1 OR app_id IN
         (SELECT app_id FROM apps WHERE stopped_at < ?2)"
    );
    let mut ids: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(clock::now())
        .bind(clock::now() - OWNED_AGE)
        .fetch_all(&ctx.db)
        .await
        .map_err(Error::database("collect garbage"))?;
    ids.retain(|id| !named.contains(id));
    Ok(ids)
}

/// Forgets old blobs, but for those that inputs without an end came in.
async fn forget_blobs(ctx: &Ctx) -> Result<u64> {
    let failed = || Error::database("collect garbage");
    let mut old: Vec<String> = sqlx::query_scalar("SELECT blob_id FROM blobs WHERE created_at < ?")
        .bind(clock::now() - BLOB_AGE.as_secs_f64())
        .fetch_all(&ctx.db)
        .await
        .map_err(failed())?;
    if !old.is_empty() {
        let inputs = ctx.functions.calls.pending().await?;
        let waiting: HashSet<&str> = inputs.iter().filter_map(Input::blob).collect();
        old.retain(|id| !waiting.contains(id.as_str()));
    }
    for id in &old {
        sqlx::query("DELETE FROM blobs WHERE blob_id = ?")
            .bind(id)
            .execute(&ctx.db)
            .await
            .map_err(failed())?;
    }
    Ok(old.len() as u64)
}

/// What was deleted. Volumes only while no sandbox can have them mounted.
fn sweep_trash(trash: &Path, is_quiet: bool, swept: &mut Collected) -> Result<()> {
    for path in entries(trash)? {
        let is_volume = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(VolumeId::PREFIX));
        if is_quiet || !is_volume {
            swept.bytes += remove_any(&path)?;
            swept.directories += 1;
        }
    }
    Ok(())
}

/// What lies in a directory of objects and is no object.
fn sweep_orphans(root: &Path, known: &HashSet<String>, swept: &mut Collected) -> Result<()> {
    for path in entries(root)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| !known.contains(&name)) && is_older(&path, ORPHAN_AGE) {
            swept.bytes += remove_any(&path)?;
            swept.directories += 1;
        }
    }
    Ok(())
}

fn sweep_contents(
    cas: &Path,
    known: &HashSet<String>,
    age: Duration,
    swept: &mut Collected,
) -> Result<()> {
    for shelf in entries(cas)? {
        for path in entries(&shelf)? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if name.is_some_and(|name| !known.contains(&name)) && is_older(&path, age) {
                swept.bytes += remove_any(&path)?;
                swept.contents += 1;
            }
        }
    }
    Ok(())
}

/// Files that nobody has changed for so long.
fn sweep_old(root: &Path, age: Duration, swept: &mut Collected) -> Result<()> {
    for path in entries(root)?.iter().filter(|path| is_older(path, age)) {
        swept.bytes += remove_any(path)?;
        swept.directories += 1;
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = || Error::file("read", directory);
    let entries = fs::read_dir(directory).map_err(failed())?;
    entries.map(|entry| entry.map(|it| it.path()).map_err(failed())).collect()
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|it| it.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed > age))
}

/// Removes a file or a whole directory, links not followed; answers the bytes that were in it.
pub(crate) fn remove_any(path: &Path) -> Result<u64> {
    let aside = path.parent().unwrap_or(path);
    match removal::remove(path, aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        done => done.map_err(Error::file("remove", path)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn removal_follows_no_link_and_opens_closed_directories() {
        let dir = tempfile::tempdir().unwrap();
        let keep = dir.path().join("keep");
        fs::create_dir_all(dir.path().join("gone/closed")).unwrap();
        fs::create_dir(&keep).unwrap();
        fs::write(keep.join("a"), "kept").unwrap();
        fs::write(dir.path().join("gone/closed/b"), "12345").unwrap();
        symlink(&keep, dir.path().join("gone/link")).unwrap();
        let closed = fs::Permissions::from_mode(0o000);
        fs::set_permissions(dir.path().join("gone/closed"), closed).unwrap();
        remove_any(&dir.path().join("gone")).unwrap();
        assert!(!dir.path().join("gone").exists());
        assert_eq!(fs::read(keep.join("a")).unwrap(), b"kept");
        assert_eq!(remove_any(&dir.path().join("gone")).unwrap(), 0);
    }

    #[test]
    fn only_old_contents_without_a_name_go() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = dir.path().join("ab");
        fs::create_dir(&shelf).unwrap();
        for name in ["abnamed", "aborphan"] {
            fs::write(shelf.join(name), "x").unwrap();
        }
        let known = HashSet::from(["abnamed".to_owned()]);
        let mut swept = Collected::default();
        sweep_contents(dir.path(), &known, CONTENT_AGE, &mut swept).unwrap();
        assert_eq!(swept.contents, 0);
        sweep_contents(dir.path(), &known, Duration::ZERO, &mut swept).unwrap();
        assert_eq!((swept.contents, swept.bytes), (1, 1));
        assert!(shelf.join("abnamed").exists());
    }

    #[test]
    fn deleted_volumes_wait_for_the_last_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("vo-1")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let mut swept = Collected::default();
        sweep_trash(dir.path(), false, &mut swept).unwrap();
        assert!(dir.path().join("vo-1").exists() && !dir.path().join("file").exists());
        sweep_trash(dir.path(), true, &mut swept).unwrap();
        assert!(!dir.path().join("vo-1").exists());
    }
}
