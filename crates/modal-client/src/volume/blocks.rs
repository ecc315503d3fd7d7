//! How a version 2 volume cuts and names a file: blocks of 8 MiB, each known by the SHA-256 of its
//! contents without trailing zero bytes.

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    path::PathBuf,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

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

/// A file's length and the hashes of its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) size: u64,
    pub(crate) blocks: Vec<BlockHash>,
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
                let hashed = hash_reader(bytes.as_ref(), bytes.len() as u64)?;
                return Ok((self, hashed));
            }
            Self::File(path) => path,
        };
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        if length > keep {
            let hashed = hash_reader(file, length)?;
            return Ok((self, hashed));
        }
        let mut data = Vec::new();
        file.read_to_end(&mut data)?;
        let hashed = hash_reader(data.as_slice(), data.len() as u64)?;
        Ok((Self::Memory(data.into()), hashed))
    }

    /// The bytes of block `index` as they are sent: without trailing zeros. Blocking.
    pub(crate) fn block(&self, index: u64) -> io::Result<Bytes> {
        let start = index * BLOCK;
        match self {
            Self::Memory(bytes) => {
                let length = bytes.len() as u64;
                let (start, end) = (start.min(length), (start + BLOCK).min(length));
                Ok(trimmed(bytes.slice(start as usize..end as usize)))
            }
            Self::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                let left = file.metadata()?.len().saturating_sub(start);
                let mut block = Vec::with_capacity(left.min(BLOCK) as usize);
                file.take(BLOCK).read_to_end(&mut block)?;
                Ok(trimmed(block.into()))
            }
        }
    }
}

/// Hashes what there is to read: about `length` bytes, for which there is room at once.
fn hash_reader(mut reader: impl Read, length: u64) -> io::Result<Hashed> {
    let mut hashed = Hashed { size: 0, blocks: Vec::new() };
    let mut block = Vec::with_capacity(length.min(BLOCK) as usize);
    loop {
        block.clear();
        let read = reader.by_ref().take(BLOCK).read_to_end(&mut block)? as u64;
        if read > 0 {
            hashed.size += read;
            hashed.blocks.push(hash(without_zeros(&block)));
        }
        if read < BLOCK {
            return Ok(hashed);
        }
    }
}

pub(crate) fn hash(block: &[u8]) -> BlockHash {
    Sha256::digest(block).into()
}

fn trimmed(block: Bytes) -> Bytes {
    let length = without_zeros(&block).len();
    block.slice(..length)
}

fn without_zeros(block: &[u8]) -> &[u8] {
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
        assert_eq!(of(Vec::new()).1, Hashed { size: 0, blocks: Vec::new() });
        let (contents, zeros) = of(vec![0; 1000]);
        assert_eq!((zeros.size, zeros.blocks), (1000, vec![hash(b"")]));
        assert!(contents.block(0).unwrap().is_empty());
    }

    #[test]
    fn blocks_are_cut_at_8_mib_and_sent_without_trailing_zeros() {
        let mut bytes = vec![7; BLOCK as usize];
        bytes.extend(b"tail\0\0");
        let (contents, hashed) = of(bytes);
        assert_eq!((hashed.size, hashed.blocks.len()), (BLOCK + 6, 2));
        assert_eq!(hashed.blocks[1], hash(b"tail"));
        assert_eq!(contents.block(0).unwrap().len() as u64, BLOCK);
        assert_eq!(contents.block(1).unwrap().as_ref(), b"tail");
        assert!(contents.block(2).unwrap().is_empty());
    }

    #[test]
    fn a_file_and_the_same_bytes_in_memory_hash_alike() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..BLOCK + 17).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let (memory, hashed) = of(bytes);
        let file = Contents::File(path);
        let (file, of_file) = file.into_hashed(0).unwrap();
        assert_eq!(of_file, hashed);
        assert_eq!(file.block(1).unwrap(), memory.block(1).unwrap());
    }
}
