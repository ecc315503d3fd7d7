//! The hashes of a file's blocks: a large file's are computed by as many threads as there are cores.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek as _, SeekFrom},
    num::NonZero,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use super::blocks::{BLOCK, BlockHash};

/// Read at once: so much stays in a core's caches until it is hashed.
const PIECE: u64 = 256 << 10;
/// A file of so many blocks is worth more than one thread.
const LARGE: u64 = 4;
/// More threads than this wait for memory.
const MOST_THREADS: usize = 8;

/// A file's length and the hashes of its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) size: u64,
    pub(crate) blocks: Vec<BlockHash>,
    /// Of what may change until it is sent.
    pub(super) stamp: Option<Stamp>,
}

/// What tells that a file is as it was when it was hashed.
///
/// Who writes through a mapping, or sets the time back, is not noticed; a block of other bytes than announced is then
/// refused by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    size: u64,
    modified: SystemTime,
}

impl Stamp {
    /// `None` where the file system keeps no times.
    pub(super) fn of(stat: &Metadata) -> Option<Self> {
        Some(Self { size: stat.len(), modified: stat.modified().ok()? })
    }
}

/// Hashes what there is to read.
pub(super) fn of_reader(mut reader: impl Read) -> io::Result<Hashed> {
    let mut hashed = Hashed { size: 0, blocks: Vec::new(), stamp: None };
    loop {
        let (hash, read) = hash_block(&mut reader)?;
        if read > 0 {
            hashed.size += read;
            hashed.blocks.push(hash);
        }
        if read < BLOCK {
            return Ok(hashed);
        }
    }
}

/// Hashes a file that was just opened. Blocks.
///
/// # Errors
/// It can't be read, or became shorter meanwhile.
pub(super) fn of_file(path: &Path, file: File) -> io::Result<Hashed> {
    let stat = file.metadata()?;
    let (size, stamp) = (stat.len(), Stamp::of(&stat));
    let count = size.div_ceil(BLOCK);
    if count < LARGE {
        return Ok(Hashed { stamp, ..of_reader(file)? });
    }
    let next = AtomicU64::new(0);
    let hash_some = || -> io::Result<Vec<(u64, BlockHash)>> {
        let (mut file, mut hashes) = (File::open(path)?, Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(hashes);
            }
            hashes.push((index, hash_at(&mut file, index * BLOCK, size)?));
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    let mut hashes = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(hash_some)).collect();
        let mut hashes = hash_some()?;
        for other in others {
            hashes.extend(other.join().unwrap_or_else(|it| std::panic::resume_unwind(it))?);
        }
        io::Result::Ok(hashes)
    })?;
    hashes.sort_unstable_by_key(|(index, _)| *index);
    Ok(Hashed { size, blocks: hashes.into_iter().map(|(_, hash)| hash).collect(), stamp })
}

fn hash_at(file: &mut File, start: u64, size: u64) -> io::Result<BlockHash> {
    file.seek(SeekFrom::Start(start))?;
    let (hash, read) = hash_block(file)?;
    if read < BLOCK.min(size - start) {
        return Err(io::Error::other("the file became shorter while it was read"));
    }
    Ok(hash)
}

/// The hash of the next block without its trailing zeros, and how many bytes it has with them.
fn hash_block(reader: &mut impl Read) -> io::Result<(BlockHash, u64)> {
    let mut hasher = Trimming::default();
    let mut read = 0;
    let mut piece = Vec::new();
    loop {
        piece.clear();
        let wanted = PIECE.min(BLOCK - read);
        let came = reader.by_ref().take(wanted).read_to_end(&mut piece)? as u64;
        hasher.update(&piece);
        read += came;
        if came < wanted || read == BLOCK {
            return Ok((hasher.finish(), read));
        }
    }
}

/// Hashes all but the zeros at the end.
#[derive(Default)]
struct Trimming {
    sha256: Sha256,
    /// They count only if something else follows.
    zeros: usize,
}

impl Trimming {
    fn update(&mut self, piece: &[u8]) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let kept = super::blocks::without_zeros(piece);
        if kept.is_empty() {
            self.zeros += piece.len();
            return;
        }
        while self.zeros > 0 {
            let some = self.zeros.min(ZEROS.len());
            self.sha256.update(&ZEROS[..some]);
            self.zeros -= some;
        }
        self.sha256.update(kept);
        self.zeros = piece.len() - kept.len();
    }

    fn finish(self) -> BlockHash {
        self.sha256.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::hash;
    use super::*;

    #[test]
    fn a_large_file_has_the_hashes_of_its_blocks_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let size = (LARGE + 3) * BLOCK + 12_345;
        let bytes: Vec<u8> = (0..size).map(|n| (n / 7_919 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let hashed = of_file(&path, File::open(&path).unwrap()).unwrap();
        assert_eq!(hashed.blocks, of_reader(bytes.as_slice()).unwrap().blocks);
        assert_eq!(hashed.size, size);
        assert_eq!(hashed.blocks[0], hash(&bytes[..BLOCK as usize]));
        assert_eq!(hashed.blocks.len() as u64, LARGE + 4);
        let last = (LARGE + 3) * BLOCK;
        let error = hash_at(&mut File::open(&path).unwrap(), last, size + 1).unwrap_err();
        assert!(error.to_string().contains("shorter"), "{error}");
    }

    #[test]
    fn zeros_count_where_something_follows_them() {
        let mut bytes = vec![0; 3 * PIECE as usize + 5];
        bytes[2] = 1;
        assert_eq!(of_reader(bytes.as_slice()).unwrap().blocks, [hash(&bytes[..3])]);
        bytes[3 * PIECE as usize] = 2;
        let kept = &bytes[..=3 * PIECE as usize];
        assert_eq!(of_reader(bytes.as_slice()).unwrap().blocks, [hash(kept)]);
    }
}
