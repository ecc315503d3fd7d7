//! How a version 2 volume cuts and names a file: blocks of 8 MiB, each known by the SHA-256 of its
//! contents without trailing zero bytes.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::hashed::{self, Hashed, Stamp};

/// The length of every block of a file but the last.
pub(crate) const BLOCK: u64 = 8 * 1024 * 1024;

/// The hash that names a block.
pub(crate) type BlockHash = [u8; 32];

/// Where the bytes of a file come from.
#[derive(Debug, Clone)]
pub(crate) enum Contents {
    File(PathBuf),
    Memory(Bytes),
}

impl Contents {
    /// Where they come from, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory(_) => PathBuf::from("(memory)"),
        }
    }

    /// All of them. Blocking.
    pub(crate) fn all(&self) -> io::Result<Bytes> {
        match self {
            Self::File(path) => std::fs::read(path).map(Bytes::from),
            Self::Memory(bytes) => Ok(bytes.clone()),
        }
    }

    /// Their length and the SHA-256 of the whole. Reads the whole file: call it where blocking is allowed.
    pub(crate) fn sha256(&self) -> io::Result<(u64, BlockHash)> {
        let mut sha256 = Sha256::new();
        let size = match self {
            Self::File(path) => io::copy(&mut File::open(path)?, &mut sha256)?,
            Self::Memory(bytes) => {
                sha256.update(bytes);
                bytes.len() as u64
            }
        };
        Ok((size, sha256.finalize().into()))
    }

    /// Hashes every block, and takes a file of at most `keep` bytes into memory. Reads the whole file: call it where
    /// blocking is allowed.
    pub(crate) fn into_hashed(self, keep: u64) -> io::Result<(Self, Hashed)> {
        let path = match &self {
            Self::Memory(bytes) => {
                let hashed = hashed::of_reader(bytes.as_ref())?;
                return Ok((self, hashed));
            }
            Self::File(path) => path,
        };
        let mut file = File::open(path)?;
        if file.metadata()?.len() > keep {
            let hashed = hashed::of_file(path, file)?;
            return Ok((self, hashed));
        }
        let mut data = Vec::new();
        file.read_to_end(&mut data)?;
        let hashed = hashed::of_reader(data.as_slice())?;
        Ok((Self::Memory(data.into()), hashed))
    }

    /// The bytes of block `index` as they are sent: without trailing zeros. `None` if they are not those that were hashed:
    /// they are hashed anew where the file may have been written to. Blocking.
    pub(crate) fn block(&self, index: u64, hashed: &Hashed) -> io::Result<Option<Bytes>> {
        let start = index * BLOCK;
        let path = match self {
            Self::Memory(bytes) => {
                let length = bytes.len() as u64;
                let (start, end) = (start.min(length), (start + BLOCK).min(length));
                return Ok(Some(trimmed(bytes.slice(start as usize..end as usize))));
            }
            Self::File(path) => path,
        };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let left = file.metadata()?.len().saturating_sub(start);
        let mut block = Vec::with_capacity(left.min(BLOCK) as usize);
        file.by_ref().take(BLOCK).read_to_end(&mut block)?;
        let block = trimmed(block.into());
        let is_as_it_was = hashed.stamp.is_some() && hashed.stamp == Stamp::of(&file.metadata()?);
        let is_same = || hashed.blocks.get(index as usize).is_some_and(|it| *it == hash(&block));
        Ok((is_as_it_was || is_same()).then_some(block))
    }
}

pub(crate) fn hash(block: &[u8]) -> BlockHash {
    Sha256::digest(block).into()
}

fn trimmed(block: Bytes) -> Bytes {
    let length = without_zeros(&block).len();
    block.slice(..length)
}

pub(super) fn without_zeros(block: &[u8]) -> &[u8] {
    let end = block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &block[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: Vec<u8>) -> (Contents, Hashed) {
        let contents = Contents::Memory(bytes.into());
        contents.into_hashed(0).unwrap()
    }

    #[test]
    fn an_empty_file_has_no_block_and_a_block_of_zeros_has_no_byte() {
        assert_eq!(of(Vec::new()).1, Hashed { size: 0, blocks: Vec::new(), stamp: None });
        let (contents, zeros) = of(vec![0; 1000]);
        assert_eq!((zeros.size, zeros.blocks.as_slice()), (1000, &[hash(b"")][..]));
        assert!(contents.block(0, &zeros).unwrap().unwrap().is_empty());
    }

    #[test]
    fn blocks_are_cut_at_8_mib_and_sent_without_trailing_zeros() {
        let mut bytes = vec![7; BLOCK as usize];
        bytes.extend(b"tail\0\0");
        let (contents, hashed) = of(bytes);
        assert_eq!((hashed.size, hashed.blocks.len()), (BLOCK + 6, 2));
        assert_eq!(hashed.blocks[1], hash(b"tail"));
        let block = |index| contents.block(index, &hashed).unwrap().unwrap();
        assert_eq!(block(0).len() as u64, BLOCK);
        assert_eq!(block(1).as_ref(), b"tail");
        assert!(block(2).is_empty());
    }

    #[test]
    fn a_file_and_the_same_bytes_in_memory_hash_alike() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..BLOCK + 17).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let (memory, hashed) = of(bytes);
        let (file, of_file) = Contents::File(path).into_hashed(0).unwrap();
        assert_eq!(of_file.blocks, hashed.blocks);
        assert_eq!(file.block(1, &of_file).unwrap(), memory.block(1, &hashed).unwrap());
    }

    #[test]
    fn a_file_that_was_written_to_has_only_the_blocks_that_are_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut bytes = vec![7; BLOCK as usize + 9];
        std::fs::write(&path, &bytes).unwrap();
        let (file, hashed) = Contents::File(path.clone()).into_hashed(0).unwrap();
        bytes.push(8);
        std::fs::write(&path, &bytes).unwrap();
        assert!(file.block(0, &hashed).unwrap().is_some());
        assert!(file.block(1, &hashed).unwrap().is_none());
    }
}
