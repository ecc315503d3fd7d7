//! How much a sandbox may take of this machine where its definition does not say, and a watch over
//! its disk.
//!
//! Memory, processes and the size of a file are the kernel's to limit. What a sandbox has written in
//! all is measured, and the sandbox ended: its changes lie in a directory of the state disk, which
//! has no quota.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use container_runtime::{Limits, LimitsBackend, Runtime};
use tokio::time::{Instant, sleep};
use walkdir::WalkDir;

/// Of this machine's memory a sandbox gets so many quarters.
const MEMORY_QUARTERS: u64 = 3;
/// What a sandbox may write at most unless it asks for more.
const MAX_DISK: u64 = 16 << 30;
/// Files and directories it may make.
const MAX_FILES: u64 = 1_000_000;
/// Without asking it gets at most this part of the state disk.
const DISK_SHARE: u64 = 2;

/// How often the disk's fill level is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Between two counts the disk may lose so much of what a sandbox may take.
const STEP: u64 = 16;
/// A sandbox is counted at least so often, if anything was written at all.
const COUNT: Duration = Duration::from_secs(30);

/// What a sandbox may write in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskLimit {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

impl DiskLimit {
    /// What was asked for, else a share of the disk that holds `directory`.
    pub(crate) fn new(directory: &Path, asked: Option<u64>) -> Self {
        let bytes = asked.unwrap_or_else(|| {
            Level::of(directory).map_or(MAX_DISK, |disk| (disk.size / DISK_SHARE).min(MAX_DISK))
        });
        Self { bytes, files: MAX_FILES }
    }
}

/// The limits in force: those asked for, and defaults relative to the machine for the others.
///
/// Where only single processes can be limited there is no default for memory: a limit of the address
/// space breaks programs that reserve much and use little.
pub(crate) fn limits(asked: &Limits, disk: DiskLimit, runtime: &Runtime) -> Limits {
    let limits = asked.clone();
    let default = match runtime.capabilities().limits {
        LimitsBackend::Rlimits => None,
        LimitsBackend::V1 | LimitsBackend::V2 => runtime.memory().map(share_of_memory),
    };
    Limits {
        memory: limits.memory.or(default),
        file_size: limits.file_size.or(Some(disk.bytes)),
        ..limits
    }
}

fn share_of_memory(memory: u64) -> u64 {
    memory / 4 * MEMORY_QUARTERS
}

/// One line for people: what a sandbox gets that asks for nothing.
pub(crate) fn describe(directory: &Path, runtime: &Runtime) -> String {
    let disk = DiskLimit::new(directory, None);
    let limits = limits(&Limits::default(), disk, runtime);
    let memory = match limits.memory {
        Some(bytes) => format!("{} of memory", gib(bytes)),
        None => "no limit on memory".to_owned(),
    };
    let pids = limits.pids.map(|count| format!(", {count} processes")).unwrap_or_default();
    format!("{memory}{pids}, {}", describe_disk(disk))
}

/// One phrase for people.
pub(crate) fn describe_disk(disk: DiskLimit) -> String {
    format!("{} of disk in {} files", gib(disk.bytes), disk.files)
}

fn gib(bytes: u64) -> String {
    if bytes < 1 << 30 {
        return format!("{} MiB", bytes >> 20);
    }
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Returns once what lies in `directory` is more than the limit, with a sentence that says so.
pub(super) async fn exceeds(directory: PathBuf, limit: DiskLimit) -> String {
    let mut counted = Level::default();
    let mut counted_at = Instant::now();
    loop {
        sleep(LOOK).await;
        let level = Level::of(&directory).unwrap_or_default();
        let is_due = counted_at.elapsed() >= COUNT && level.is_above(&counted, 1, 1);
        if !is_due && !level.is_above(&counted, limit.bytes / STEP, limit.files / STEP) {
            // What others have removed makes room that this one may fill unseen.
            counted = counted.lower(level);
            continue;
        }
        counted = level;
        let counting = directory.clone();
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
    size: u64,
    used: u64,
    files: u64,
}

impl Level {
    fn of(directory: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(directory).ok()?;
        Some(Self {
            size: found.f_blocks * found.f_frsize,
            used: found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize,
            files: found.f_files.saturating_sub(found.f_ffree),
        })
    }

    fn is_above(&self, other: &Self, bytes: u64, files: u64) -> bool {
        self.used >= other.used + bytes.max(1) || self.files >= other.files + files.max(1)
    }

    fn lower(self, other: Self) -> Self {
        let (used, files) = (self.used.min(other.used), self.files.min(other.files));
        Self { used, files, ..self }
    }
}

/// What lies in a directory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    bytes: u64,
    files: u64,
    /// Below directories whose path no program can name in one piece.
    is_deep: bool,
}

impl Count {
    /// Counts up to the limit. A file with several names counts once; links are not followed.
    fn of(directory: &Path, limit: DiskLimit) -> Self {
        let mut count = Self::default();
        let mut linked = HashSet::new();
        for entry in WalkDir::new(directory).min_depth(1).follow_links(false) {
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
            return Some(format!("the sandbox wrote more than {}", gib(limit.bytes)));
        }
        if self.files > limit.files {
            return Some(format!("the sandbox made more than {} files", limit.files));
        }
        self.is_deep.then(|| "the sandbox nested directories too deeply to be counted".to_owned())
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

    const LIMIT: DiskLimit = DiskLimit { bytes: 1 << 20, files: 10 };

    #[test]
    fn bytes_and_files_are_counted_and_names_of_one_file_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 600 << 10]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let count = Count::of(dir.path(), LIMIT);
        assert_eq!((count.files, count.excess(LIMIT)), (3, None), "{count:?}");
        fs::write(dir.path().join("c"), vec![1; 600 << 10]).unwrap();
        let excess = Count::of(dir.path(), LIMIT).excess(LIMIT);
        assert_eq!(excess.as_deref(), Some("the sandbox wrote more than 1 MiB"));
    }

    #[test]
    fn empty_files_count_too() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..11 {
            fs::write(dir.path().join(name.to_string()), "").unwrap();
        }
        let excess = Count::of(dir.path(), LIMIT).excess(LIMIT);
        assert_eq!(excess.as_deref(), Some("the sandbox made more than 10 files"));
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
        let excess = Count::of(dir.path(), limit).excess(limit).unwrap();
        assert!(excess.contains("too deeply"), "{excess}");
    }

    #[tokio::test]
    async fn growth_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let watching = tokio::spawn(exceeds(dir.path().to_owned(), LIMIT));
        fs::write(dir.path().join("big"), vec![1; 2 << 20]).unwrap();
        assert_eq!(watching.await.unwrap(), "the sandbox wrote more than 1 MiB");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(
            [gib(512 << 20), gib(3 << 29), gib(16 << 30)],
            ["512 MiB", "1.5 GiB", "16.0 GiB"]
        );
        assert_eq!(share_of_memory(8 << 30), 6 << 30);
    }
}
