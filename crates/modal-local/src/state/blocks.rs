//! Contents of blocks of volumes: they are in the store as soon as they came, and on the disk when a file needs them.
//!
//! A block is one of thousands, and no file is promised before all are here: syncing each would take most of an upload.
//! Its mode says that it may be torn after a power cut (a killed server tears nothing: what it wrote is the kernel's). Who
//! asks for it in another life of the server gets it only if its bytes still have its hash.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, PersistError};

use super::cas::{Cas, Sha256Hash, touch};
use super::packs;
use crate::durable;
use crate::error::{Error, Result};

/// The mode of a content that was not synced.
const UNSYNCED: u32 = 0o400;
/// That of every other.
const SYNCED: u32 = 0o444;

/// Blocks that came in this life of the server, so that they are what they were.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsettled(Arc<Mutex<HashSet<Sha256Hash>>>);

impl Unsettled {
    fn with<T>(&self, work: impl FnOnce(&mut HashSet<Sha256Hash>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The files that it was for are written.
    pub(super) fn forget(&self, hash: &Sha256Hash) {
        self.with(|hashes| hashes.remove(hash));
    }
}

impl Cas {
    /// Takes in a block that is in memory. It need not be on the disk yet. Blocks.
    ///
    /// # Errors
    /// The bytes have another hash.
    pub(crate) fn put_block(&self, expected: &Sha256Hash, data: &[u8]) -> Result<()> {
        let came = Sha256Hash::of(data);
        if came != *expected {
            return Err(other_hash(&came, expected));
        }
        self.check_room()?;
        if data.len() <= packs::LONGEST {
            return self.packs.put(expected, data);
        }
        let create = Error::file("create a file in", &self.tmp);
        let mut temporary = NamedTempFile::new_in(&self.tmp).map_err(create)?;
        io::Write::write_all(&mut temporary, data)
            .map_err(Error::file("write", temporary.path()))?;
        self.place_block(temporary, expected)
    }

    /// The bytes of a block that is small enough to lie with others, if it does. Blocks.
    pub(crate) fn small_block(&self, hash: &Sha256Hash) -> Option<Vec<u8>> {
        self.packs.get(hash)
    }

    /// Moves a complete block to where its hash says. Blocks.
    pub(super) fn place_block(&self, temporary: NamedTempFile, hash: &Sha256Hash) -> Result<()> {
        if self.has_block(hash) {
            return Ok(());
        }
        let path = self.path_of(hash);
        let unsynced = fs::Permissions::from_mode(UNSYNCED);
        let set = temporary.as_file().set_permissions(unsynced);
        set.map_err(Error::file("set the mode of", &path))?;
        self.unsettled.with(|hashes| hashes.insert(*hash));
        // Its directory is there nearly always.
        let temporary = match temporary.persist(&path) {
            Ok(_) => return Ok(()),
            Err(PersistError { error, file }) if error.kind() == io::ErrorKind::NotFound => file,
            Err(PersistError { error, .. }) => return Err(Error::file("write", &path)(error)),
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        }
        temporary.persist(&path).map_err(|error| Error::file("write", &path)(error.error))?;
        Ok(())
    }

    /// Whether the block is here, whole, though perhaps not on the disk. If so, its age starts anew.
    pub(crate) fn has_block(&self, hash: &Sha256Hash) -> bool {
        if self.packs.has(hash) {
            return true;
        }
        let came_lately = self.unsettled.with(|hashes| hashes.contains(hash));
        let is_here = || touch(&self.path_of(hash)).is_ok();
        if came_lately { is_here() } else { self.contains(hash) }
    }

    /// Makes sure that a content is whole and on the disk; one that is torn is removed. `false` if it is not here.
    pub(super) fn is_settled(&self, hash: &Sha256Hash) -> bool {
        let path = self.path_of(hash);
        match fs::metadata(&path).map(|metadata| metadata.permissions().mode() & 0o777) {
            Ok(UNSYNCED) => self.settle(hash).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "a block can't be read");
                false
            }),
            Ok(_) => true,
            Err(_) => false,
        }
    }

    fn settle(&self, hash: &Sha256Hash) -> Result<bool> {
        let path = self.path_of(hash);
        let mut file = File::open(&path).map_err(Error::file("open", &path))?;
        let mut sha256 = Sha256::new();
        io::copy(&mut file, &mut sha256).map_err(Error::file("read", &path))?;
        if <[u8; 32]>::from(sha256.finalize()) != *hash.as_bytes() {
            durable::remove_file(&path)?;
            return Ok(false);
        }
        file.sync_data().map_err(Error::file("sync", &path))?;
        let synced = fs::Permissions::from_mode(SYNCED);
        file.set_permissions(synced).map_err(Error::file("set the mode of", &path))?;
        durable::sync_parent(&path)?;
        Ok(true)
    }
}

/// What was sent is not what was announced.
pub(crate) fn other_hash(came: &Sha256Hash, expected: &Sha256Hash) -> Error {
    Error::invalid(format!("the block sent has the hash {came}, not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &tempfile::TempDir) -> Cas {
        for part in ["cas", "tmp"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        Cas::new(dir.path().join("cas"), dir.path().join("tmp"))
    }

    fn mode(cas: &Cas, hash: &Sha256Hash) -> u32 {
        fs::metadata(cas.path_of(hash)).unwrap().permissions().mode() & 0o777
    }

    /// Too long for a pack.
    fn block(filling: u8) -> (Sha256Hash, Vec<u8>) {
        let data = vec![filling; packs::LONGEST + 1];
        (Sha256Hash::of(&data), data)
    }

    #[test]
    fn a_block_is_here_at_once_and_on_the_disk_for_who_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let cas = store(&dir);
        let (hash, data) = block(1);
        cas.put_block(&hash, &data).unwrap();
        assert!(cas.has_block(&hash) && mode(&cas, &hash) == UNSYNCED);
        assert!(cas.contains(&hash) && mode(&cas, &hash) == SYNCED);
        assert!(cas.put_block(&hash, b"other").is_err());
    }

    #[test]
    fn a_small_block_lies_with_others() {
        let dir = tempfile::tempdir().unwrap();
        let cas = store(&dir);
        let hash = Sha256Hash::of(b"block");
        cas.put_block(&hash, b"block").unwrap();
        assert!(cas.has_block(&hash) && !cas.path_of(&hash).exists());
        assert_eq!(cas.small_block(&hash).unwrap(), b"block");
        assert!(cas.put_block(&hash, b"other").is_err());
    }

    #[test]
    fn a_block_that_a_power_cut_tore_is_not_here() {
        let dir = tempfile::tempdir().unwrap();
        let ((torn, torn_data), (whole, whole_data)) = (block(1), block(2));
        let before = store(&dir);
        before.put_block(&torn, &torn_data).unwrap();
        before.put_block(&whole, &whole_data).unwrap();
        let path = before.path_of(&torn);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "torn").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(UNSYNCED)).unwrap();
        let after = store(&dir);
        assert!(!after.has_block(&torn) && !path.exists());
        assert!(after.has_block(&whole));
        // It can come again.
        after.put_block(&torn, &torn_data).unwrap();
        assert!(after.contains(&torn));
    }
}
