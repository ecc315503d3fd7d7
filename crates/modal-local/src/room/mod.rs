//! Room on the disk: the state directory leaves a part of its file system free, and takes no more than its quota.
//!
//! Below the reserve, and above the quota, nothing large or new is begun, and whoever asks is told what is full and what
//! helps. What is left then is for what was begun: records, the ends of sandboxes, log lines. Calls
//! that delete or end something are served as long as a byte can be written.

mod quota;
mod reserve;
mod usage;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::quota::DiskQuota;
use self::quota::Meter;
pub use self::reserve::DiskReserve;
pub use self::usage::{DiskUsage, UsageByKind};
use crate::error::{Error, Result};
use crate::state_dir::StateDir;

/// The cure, wherever a full disk is told of.
pub(crate) const CURE: &str = "make room with `cargo xtask local gc`, or delete volumes, images and other files \
                               that nobody needs (`cargo xtask local status` says what takes the room)";

/// Watches over the file system of one state directory. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    directory: Arc<PathBuf>,
    reserve: DiskReserve,
    quota: DiskQuota,
    /// Where there is a quota.
    meter: Option<Arc<Meter>>,
}

/// How much a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes in all.
    pub(crate) size: u64,
    /// Bytes that may still be written.
    pub(crate) free: u64,
    /// Files that may still be made. File systems without a limit say 0 of 0.
    pub(crate) free_files: u64,
    pub(crate) files: u64,
}

impl Room {
    /// Blocks where there is a quota: it looks at every file.
    pub(crate) fn new(dir: &StateDir, reserve: DiskReserve, quota: DiskQuota) -> Self {
        let (directory, meter) = (Arc::new(dir.root().to_owned()), Meter::start(dir, quota));
        Self { directory, reserve, quota, meter }
    }

    /// Refuses if the disk is filled into its reserve, or the directory takes more than its quota.
    ///
    /// # Errors
    ///
    /// `Exhausted`, with the cure.
    pub(crate) fn check(&self) -> Result<()> {
        match self.shortage() {
            Some(shortage) => Err(Error::Exhausted(format!("{shortage}; {CURE}"))),
            None => Ok(()),
        }
    }

    /// What is short, as a sentence; `None` while there is room.
    pub(crate) fn shortage(&self) -> Option<String> {
        if let Some(excess) = self.meter.as_ref().and_then(|meter| meter.excess()) {
            return Some(excess);
        }
        let space = self.space()?;
        let reserve = self.reserve.bytes(space.size);
        let (free, kept) = (amount(space.free), amount(reserve));
        if space.free < reserve {
            return Some(format!(
                "the disk of the local server is full: {free} are free, and {kept} are its reserve"
            ));
        }
        let no_files = reserve > 0 && space.files > 0 && space.free_files == 0;
        no_files.then(|| "the disk of the local server has no room for another file".to_owned())
    }

    /// `None` where the file system does not say.
    pub(crate) fn space(&self) -> Option<Space> {
        let found = rustix::fs::statvfs(self.directory.as_path()).ok()?;
        Some(Space {
            size: found.f_blocks * found.f_frsize,
            free: found.f_bavail * found.f_frsize,
            free_files: found.f_favail,
            files: found.f_files,
        })
    }

    /// What takes the room. Blocks: it looks at every file.
    pub(crate) fn usage(&self, dir: &StateDir) -> DiskUsage {
        let space = self.space();
        DiskUsage {
            free: space.map_or(0, |space| space.free),
            size: space.map_or(0, |space| space.size),
            reserve: space.map_or(0, |space| self.reserve.bytes(space.size)),
            quota: self.quota.bytes(),
            is_full: self.shortage().is_some(),
            used: usage::count(dir),
        }
    }
}

/// Bytes for people.
pub(crate) fn amount(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_reserve_it_says_what_is_full_and_what_helps() {
        let dir = tempfile::tempdir().unwrap();
        let room = |reserve: &str| {
            Room::new(&StateDir::new(dir.path()), reserve.parse().unwrap(), DiskQuota::default())
        };
        room("0").check().unwrap();
        let error = room("1000TiB").check().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("full") && text.contains("cargo xtask local gc"), "{text}");
        assert_eq!(tonic::Status::from(error).code(), tonic::Code::ResourceExhausted);
    }

    #[test]
    fn amounts() {
        let said = [512, 5 << 20, 3 << 29].map(amount);
        assert_eq!(said, ["0 KiB", "5 MiB", "1.5 GiB"]);
    }
}
