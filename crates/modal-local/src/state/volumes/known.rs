//! The hashes of blocks of files that uploads put together, for as long as nobody has written to them.
//!
//! A download's answers carry the digest of what they send. To hash it anew costs more than to read it.
//!
//! Whether a file is as it was, its time of modification tells: an upload sets one to the nanosecond, and the kernel's
//! own, which every write sets, count its ticks. (Who sets that time back by hand gets digests that don't fit.)

use std::collections::{HashMap, VecDeque};
use std::fs::{File, FileTimes};
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
    fn of(file: &File) -> io::Result<Self> {
        let stat = file.metadata()?;
        Ok(Self {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.len(),
            modified: (stat.mtime(), stat.mtime_nsec()),
        })
    }
}

/// The files whose blocks are known. Clones share them; another life of the server knows none.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownBlocks(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    files: HashMap<Identity, Arc<[Sha256Hash]>>,
    /// Oldest first.
    order: VecDeque<Identity>,
    hashes: usize,
}

impl KnownBlocks {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the blocks of a complete file that nobody else has yet. Sets its time of modification.
    pub(super) fn remember(&self, file: &File, blocks: &[Sha256Hash]) -> io::Result<()> {
        if file.metadata()?.len() < WORTH_IT {
            return Ok(());
        }
        let now = SystemTime::now();
        file.set_times(FileTimes::new().set_modified(now))?;
        // Where the file system does not keep nanoseconds, it can't tell a write apart.
        if file.metadata()?.modified()? == now {
            let identity = Identity::of(file)?;
            self.with(|known| known.add(identity, blocks.into()));
        }
        Ok(())
    }

    /// The hash of the block that begins at `start`, its trailing zeros left out, if the file is as it was.
    ///
    /// Asked after the block was read, this holds for what was read.
    pub(crate) fn block(&self, file: &File, start: u64, length: u64) -> Option<Sha256Hash> {
        let identity = Identity::of(file).ok()?;
        let is_whole =
            start.is_multiple_of(BLOCK) && length == BLOCK.min(identity.size.saturating_sub(start));
        if !is_whole {
            return None;
        }
        let index = usize::try_from(start / BLOCK).ok()?;
        self.with(|known| known.files.get(&identity)?.get(index).copied())
    }
}

impl Known {
    fn add(&mut self, identity: Identity, blocks: Arc<[Sha256Hash]>) {
        self.hashes += blocks.len();
        if let Some(before) = self.files.insert(identity, blocks) {
            self.hashes -= before.len();
        } else {
            self.order.push_back(identity);
        }
        while self.hashes > KEPT {
            let Some(oldest) = self.order.pop_front() else { break };
            self.hashes -= self.files.remove(&oldest).map_or(0, |blocks| blocks.len());
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
    fn small_files_and_the_oldest_are_not_kept() {
        let known = KnownBlocks::default();
        let small = file(WORTH_IT - 1);
        known.remember(&small, &hashes(1)).unwrap();
        assert_eq!(known.block(&small, 0, WORTH_IT - 1), None);
        let files: Vec<_> = (0..3).map(|_| file(WORTH_IT)).collect();
        let many = hashes(KEPT as u64 / 2);
        files.iter().for_each(|file| known.remember(file, &many).unwrap());
        let is_known = |file: &File| known.block(file, 0, WORTH_IT).is_some();
        assert_eq!(files.iter().map(is_known).collect::<Vec<_>>(), [false, true, true]);
    }
}
