//! The hashes of blocks of files that uploads put together, for as long as nobody has written to them.
//!
//! A download's answers carry the digest of what they send. To hash it anew costs more than to read it.
//!
//! Whether a file is as it was, its times tell: an upload sets the time of modification to the nanosecond, and the kernel's
//! own, which every write sets, count its ticks. Who sets that one back by hand changes the time of the last change.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::upload::BLOCK;
use crate::state::cas::Sha256Hash;

/// Smaller files are hashed in no time.
const WORTH_IT: u64 = 1 << 20;
/// How many hashes are kept: 4 MiB of them, for half a terabyte of large files.
const KEPT: usize = 1 << 16;

/// A file as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(stat: &Metadata) -> Self {
        Self {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.len(),
            modified: (stat.mtime(), stat.mtime_nsec()),
        }
    }
}

/// When anything about the file was changed last, its name included.
type Changed = (i64, i64);

fn changed(stat: &Metadata) -> Changed {
    (stat.ctime(), stat.ctime_nsec())
}

/// What is known of a file.
#[derive(Debug)]
struct Blocks {
    hashes: Arc<[Sha256Hash]>,
    /// None until it is in its place.
    since: Option<Changed>,
}

/// The files whose blocks are known. Clones share them; another life of the server knows none.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownBlocks(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    files: HashMap<Identity, Blocks>,
    /// Oldest first.
    order: VecDeque<Identity>,
    hashes: usize,
}

impl KnownBlocks {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the blocks of a complete file that nobody else has yet, until [`settle`](Self::settle) says that it is in its
    /// place. Sets its time of modification.
    pub(super) fn remember(&self, file: &File, blocks: &[Sha256Hash]) -> io::Result<()> {
        if file.metadata()?.len() < WORTH_IT {
            return Ok(());
        }
        let now = SystemTime::now();
        file.set_times(FileTimes::new().set_modified(now))?;
        // Where the file system does not keep nanoseconds, it can't tell a write apart.
        let stat = file.metadata()?;
        if stat.modified()? == now {
            let blocks = Blocks { hashes: blocks.into(), since: None };
            self.with(|known| known.add(Identity::of(&stat), blocks));
        }
        Ok(())
    }

    /// Says that the file has got its name: what changes it from now on changes what is known.
    pub(super) fn settle(&self, file: &File) {
        let Ok(stat) = file.metadata() else { return };
        if stat.len() >= WORTH_IT {
            self.with(|known| {
                if let Some(blocks) = known.files.get_mut(&Identity::of(&stat)) {
                    blocks.since = Some(changed(&stat));
                }
            });
        }
    }

    /// The hash of the block that begins at `start`, its trailing zeros left out, if the file is as it was.
    ///
    /// Asked after the block was read, this holds for what was read.
    pub(crate) fn block(&self, file: &File, start: u64, length: u64) -> Option<Sha256Hash> {
        let stat = file.metadata().ok()?;
        let identity = Identity::of(&stat);
        let is_whole =
            start.is_multiple_of(BLOCK) && length == BLOCK.min(identity.size.saturating_sub(start));
        if !is_whole {
            return None;
        }
        let index = usize::try_from(start / BLOCK).ok()?;
        self.with(|known| {
            let blocks = known.files.get(&identity)?;
            let is_as_it_was = blocks.since == Some(changed(&stat));
            blocks.hashes.get(index).filter(|_| is_as_it_was).copied()
        })
    }
}

impl Known {
    fn add(&mut self, identity: Identity, blocks: Blocks) {
        self.hashes += blocks.hashes.len();
        if let Some(before) = self.files.insert(identity, blocks) {
            self.hashes -= before.hashes.len();
        } else {
            self.order.push_back(identity);
        }
        while self.hashes > KEPT {
            let Some(oldest) = self.order.pop_front() else { break };
            self.hashes -= self.files.remove(&oldest).map_or(0, |blocks| blocks.hashes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use super::*;

    fn file(length: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        file
    }

    fn hashes(count: u64) -> Vec<Sha256Hash> {
        (0..count).map(|n| Sha256Hash::of(&n.to_le_bytes())).collect()
    }

    #[test]
    fn whole_blocks_are_known_until_the_file_is_written_to() {
        let known = KnownBlocks::default();
        let (mut file, hashes) = (file(BLOCK + 9), hashes(2));
        known.remember(&file, &hashes).unwrap();
        assert_eq!(known.block(&file, 0, BLOCK), None, "it is not in its place yet");
        known.settle(&file);
        assert_eq!(known.block(&file, 0, BLOCK), Some(hashes[0]));
        assert_eq!(known.block(&file, BLOCK, 9), Some(hashes[1]));
        for (start, length) in [(0, BLOCK - 1), (1, BLOCK), (BLOCK, 8), (2 * BLOCK, 0)] {
            assert_eq!(known.block(&file, start, length), None, "{start}, {length}");
        }
        file.seek(SeekFrom::Start(3)).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(known.block(&file, 0, BLOCK), None);
    }

    #[test]
    fn setting_the_time_back_does_not_hide_a_write() {
        let known = KnownBlocks::default();
        let (mut file, hashes) = (file(BLOCK), hashes(1));
        known.remember(&file, &hashes).unwrap();
        known.settle(&file);
        let (modified, since) = {
            let stat = file.metadata().unwrap();
            (stat.modified().unwrap(), changed(&stat))
        };
        file.write_all(b"x").unwrap();
        // The kernel's clock for files has ticks of some milliseconds.
        while changed(&file.metadata().unwrap()) == since {
            file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        }
        assert_eq!(known.block(&file, 0, BLOCK), None);
    }

    #[test]
    fn small_files_and_the_oldest_are_not_kept() {
        let known = KnownBlocks::default();
        let small = file(WORTH_IT - 1);
        known.remember(&small, &hashes(1)).unwrap();
        assert_eq!(known.block(&small, 0, WORTH_IT - 1), None);
        let files: Vec<_> = (0..3).map(|_| file(WORTH_IT)).collect();
        let many = hashes(KEPT as u64 / 2);
        for file in &files {
            known.remember(file, &many).unwrap();
            known.settle(file);
        }
        let is_known = |file: &File| known.block(file, 0, WORTH_IT).is_some();
        assert_eq!(files.iter().map(is_known).collect::<Vec<_>>(), [false, true, true]);
    }
}
