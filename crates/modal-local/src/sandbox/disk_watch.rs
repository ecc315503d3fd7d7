//! A watch over what a container writes to the state disk, which has no quota: one that writes too
//! much is ended.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use walkdir::WalkDir;

use super::usage::DiskLimit;
use crate::room::{Room, amount};

/// How often the disk's fill level is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Between two counts the disk may lose so much of what a container may take.
const STEP: u64 = 16;
/// A container is counted at least so often, if anything was written at all.
const COUNT: Duration = Duration::from_secs(30);

/// On a full disk, who has written so recently is writing.
const RECENT: Duration = Duration::from_secs(2);
/// And if it is so many bytes, it is part of the trouble.
const CULPABLE: u64 = 1 << 20;

/// What a container writes to, and how much it may.
#[derive(Debug, Clone)]
pub(crate) struct DiskWatch {
    /// Its changes, which the limit is about: directories of one file system, some of them not there yet.
    pub(crate) changes: Vec<PathBuf>,
    /// Volumes that it may write to. They outlive it and have no limit but the disk.
    pub(crate) volumes: Vec<PathBuf>,
    pub(crate) limit: DiskLimit,
    pub(crate) room: Room,
}

/// Returns once the container has written too much, with a sentence that says so.
pub(crate) async fn exceeds(watch: DiskWatch) -> String {
    tokio::select! {
        excess = over_limit(watch.changes.clone(), watch.limit) => excess,
        excess = fills_disk(watch) => excess,
    }
}

/// Returns once the disk is filled into its reserve and this container is among those that do it.
async fn fills_disk(watch: DiskWatch) -> String {
    loop {
        sleep(LOOK).await;
        let Some(shortage) = watch.room.shortage() else { continue };
        let places: Vec<PathBuf> = watch.volumes.iter().chain(&watch.changes).cloned().collect();
        let since = SystemTime::now() - RECENT;
        let written = tokio::task::spawn_blocking(move || written_since(&places, since)).await;
        if written.is_ok_and(|bytes| bytes >= CULPABLE) {
            return format!("{shortage}; this container was writing to it");
        }
    }
}

/// Bytes of the files that were changed since then. By the time of the change itself, which programs
/// cannot set.
fn written_since(places: &[PathBuf], since: SystemTime) -> u64 {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let entries = places.iter().flat_map(|place| WalkDir::new(place).follow_links(false));
    let found = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    let recent = found.filter(|it| it.is_file() && it.ctime() >= since);
    recent.map(|it| it.blocks() * 512).sum()
}

/// Returns once what lies in these directories together is more than the limit.
async fn over_limit(directories: Vec<PathBuf>, limit: DiskLimit) -> String {
    let mut counted = Level::default();
    let mut counted_at = Instant::now();
    loop {
        sleep(LOOK).await;
        let level = directories.first().and_then(|one| Level::of(one)).unwrap_or_default();
        let is_due = counted_at.elapsed() >= COUNT && level.is_above(&counted, 1, 1);
        if !is_due && !level.is_above(&counted, limit.bytes / STEP, limit.files / STEP) {
            // What others have removed makes room that this one may fill unseen.
            counted = counted.lower(level);
            continue;
        }
        counted = level;
        let counting = directories.clone();
        let count = tokio::task::spawn_blocking(move || Count::of(&counting, limit)).await;
        counted_at = Instant::now();
        match count.map(|count| count.excess(limit)) {
            Ok(Some(excess)) => return excess,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a sandbox's files could not be counted"),
        }
    }
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    used: u64,
    files: u64,
}

impl Level {
    fn of(directory: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(directory).ok()?;
        Some(Self {
            used: found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize,
            files: found.f_files.saturating_sub(found.f_ffree),
        })
    }

    fn is_above(&self, other: &Self, bytes: u64, files: u64) -> bool {
        self.used >= other.used + bytes.max(1) || self.files >= other.files + files.max(1)
    }

    fn lower(self, other: Self) -> Self {
        let (used, files) = (self.used.min(other.used), self.files.min(other.files));
        Self { used, files }
    }
}

/// What lies in directories.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    bytes: u64,
    files: u64,
    /// Below directories whose path no program can name in one piece.
    is_deep: bool,
}

impl Count {
    /// Counts up to the limit. A file with several names counts once; links are not followed.
    fn of(directories: &[PathBuf], limit: DiskLimit) -> Self {
        let mut count = Self::default();
        let mut linked = HashSet::new();
        let below = |it: &PathBuf| WalkDir::new(it).min_depth(1).follow_links(false);
        for entry in directories.iter().flat_map(below) {
            let found = entry.and_then(|entry| entry.metadata());
            match found {
                Ok(found) => {
                    if found.is_dir() || found.nlink() == 1 || linked.insert(found.ino()) {
                        // Source: stat(2); the unit is 512 bytes whatever the file system's is.
                        count.bytes += found.blocks() * 512;
                    }
                    count.files += 1;
                }
                Err(error) => count.is_deep |= is_too_deep(&error),
            }
            if count.excess(limit).is_some() {
                break;
            }
        }
        count
    }

    fn excess(&self, limit: DiskLimit) -> Option<String> {
        if self.bytes > limit.bytes {
            return Some(format!("it wrote more than {}", amount(limit.bytes)));
        }
        if self.files > limit.files {
            return Some(format!("it made more than {} files", limit.files));
        }
        self.is_deep.then(|| "it nested directories too deeply to be counted".to_owned())
    }
}

/// What went away meanwhile or may not be read is not counted; depth would hide any amount.
fn is_too_deep(error: &walkdir::Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::InvalidFilename)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::room::DiskQuota;
    use crate::state_dir::StateDir;

    const LIMIT: DiskLimit = DiskLimit { bytes: 1 << 20, files: 10 };

    #[test]
    fn bytes_and_files_are_counted_and_names_of_one_file_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 600 << 10]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let count = Count::of(&[dir.path().to_owned()], LIMIT);
        assert_eq!((count.files, count.excess(LIMIT)), (3, None), "{count:?}");
        fs::write(dir.path().join("c"), vec![1; 600 << 10]).unwrap();
        let excess = Count::of(&[dir.path().to_owned()], LIMIT).excess(LIMIT);
        assert_eq!(excess.as_deref(), Some("it wrote more than 1 MiB"));
    }

    #[test]
    fn empty_files_count_too() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..11 {
            fs::write(dir.path().join(name.to_string()), "").unwrap();
        }
        let excess = Count::of(&[dir.path().to_owned()], LIMIT).excess(LIMIT);
        assert_eq!(excess.as_deref(), Some("it made more than 10 files"));
    }

    #[test]
    fn nothing_hides_in_the_depth() {
        let dir = tempfile::tempdir().unwrap();
        let name = "d".repeat(250);
        let mut inner = dir.path().join("d0");
        fs::create_dir(&inner).unwrap();
        for level in 1..20 {
            let outer = dir.path().join(format!("d{level}"));
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join(&name)).unwrap();
            inner = outer;
        }
        let limit = DiskLimit { files: 1_000, ..LIMIT };
        let excess = Count::of(&[dir.path().to_owned()], limit).excess(limit).unwrap();
        assert!(excess.contains("too deeply"), "{excess}");
    }

    #[tokio::test]
    async fn growth_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let watching = tokio::spawn(over_limit(vec![dir.path().to_owned()], LIMIT));
        fs::write(dir.path().join("big"), vec![1; 2 << 20]).unwrap();
        assert_eq!(watching.await.unwrap(), "it wrote more than 1 MiB");
    }

    #[tokio::test]
    async fn who_fills_the_disk_is_found_by_what_it_writes() {
        let (own, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let room =
            Room::new(&StateDir::new(own.path()), "1000TiB".parse().unwrap(), DiskQuota::default());
        let limit = DiskLimit { bytes: 1 << 40, files: 1 << 40 };
        let watch = |volumes| DiskWatch {
            changes: vec![own.path().to_owned()],
            volumes,
            limit,
            room: room.clone(),
        };
        let innocent = tokio::spawn(exceeds(watch(Vec::new())));
        let writer = tokio::spawn(exceeds(watch(vec![volume.path().to_owned()])));
        fs::write(volume.path().join("big"), vec![1; 2 << 20]).unwrap();
        let excess = writer.await.unwrap();
        assert!(excess.contains("full") && excess.contains("was writing"), "{excess}");
        assert!(!innocent.is_finished());
        innocent.abort();
    }
}
