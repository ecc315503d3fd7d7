//! What takes the room of the state directory, by kind.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use crate::state_dir::StateDir;

/// What a state directory takes of its disk, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// What may still be written.
    pub free: u64,
    /// The file system's size.
    pub size: u64,
    /// What is left free on purpose: below it nothing new is begun.
    pub reserve: u64,
    /// What the directory may take in all, if that has a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Whether the disk is filled into its reserve, or the quota is used up.
    pub is_full: bool,
    /// What is taken.
    pub used: UsageByKind,
}

/// Bytes by what they are for. A file with several names counts once, where it comes first here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageByKind {
    /// Layers and bases of images, and builds under way.
    pub layers: u64,
    /// Uploaded contents: blocks of files, blobs, files of mounts.
    pub blocks: u64,
    /// Volumes.
    pub volumes: u64,
    /// Directories of mounts, as far as they are not uploaded contents.
    pub mounts: u64,
    /// What sandboxes and containers of functions have changed.
    pub sandboxes: u64,
    /// Logs of apps and of the server.
    pub logs: u64,
    /// The database and secrets.
    pub records: u64,
    /// What is about to be removed.
    pub trash: u64,
    /// Everything else below the directory: results of evaluations, for one.
    pub other: u64,
}

impl UsageByKind {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Each kind with its name.
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("layers", self.layers),
            ("blocks", self.blocks),
            ("volumes", self.volumes),
            ("mounts", self.mounts),
            ("sandboxes", self.sandboxes),
            ("logs", self.logs),
            ("records", self.records),
            ("trash", self.trash),
            ("other", self.other),
        ]
    }
}

/// Counts everything; what goes away meanwhile or may not be read is not counted.
pub(super) fn count(dir: &StateDir) -> UsageByKind {
    let mut counter = Counter::default();
    let beside = |database: PathBuf| {
        let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", database.display()));
        [with(""), with("-wal"), with("-shm")]
    };
    let logs = [beside(dir.log_database()).to_vec(), vec![dir.log(), dir.old_log()]].concat();
    let records = [
        beside(dir.database()).to_vec(),
        vec![dir.secrets(), dir.parts(), dir.keys(), dir.server_json()],
    ]
    .concat();
    UsageByKind {
        layers: counter.count(&[dir.images()]),
        blocks: counter.count(&[dir.cas(), dir.tmp()]),
        volumes: counter.count(&[dir.volumes()]),
        mounts: counter.count(&[dir.mounts()]),
        sandboxes: counter.count(&[dir.sandboxes(), dir.runtime()]),
        logs: counter.count(&logs),
        records: counter.count(&records),
        trash: counter.count(&[dir.trash()]),
        other: counter.count(&[dir.root().to_owned()]),
    }
}

/// Remembers what was counted, so that nothing is twice.
#[derive(Default)]
struct Counter {
    seen: HashSet<(u64, u64)>,
}

impl Counter {
    fn count(&mut self, paths: &[PathBuf]) -> u64 {
        let mut bytes = 0;
        for entry in paths.iter().flat_map(|path| WalkDir::new(path).follow_root_links(true)) {
            let Ok(Ok(found)) = entry.map(|entry| entry.metadata()) else { continue };
            if self.seen.insert((found.dev(), found.ino())) {
                // Source: stat(2); the unit is 512 bytes whatever the file system's is.
                bytes += found.blocks() * 512;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_file_is_of_one_kind() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path());
        dir.create().unwrap();
        let empty = count(&dir);
        let write = |path: PathBuf, kib: usize| fs::write(path, vec![1; kib << 10]).unwrap();
        write(dir.cas().join("content"), 64);
        fs::hard_link(dir.cas().join("content"), dir.mounts().join("same")).unwrap();
        write(dir.log(), 16);
        write(dir.root().join("index"), 32);
        let full = count(&dir);
        assert_eq!(full.blocks - empty.blocks, 64 << 10);
        assert_eq!(full.mounts, empty.mounts, "it is counted as a block");
        assert_eq!([full.logs - empty.logs, full.other - empty.other], [16 << 10, 32 << 10]);
        assert_eq!(full.total() - empty.total(), 112 << 10);
    }
}
