//! File contents by their SHA-256: what uploads leave, and mounts and volumes are made of.
//!
//! A content lies in `cas/<first two digits>/<hash>`, read-only. It is there completely or not at
//! all, and its name was checked against its bytes when it came in. Users link or copy it; nobody
//! writes to it. (Small blocks of volumes lie in [`super::packs`].) What no record names and nobody asked for lately is removed by [`crate::gc`].

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::packs::Packs;
use crate::durable;
use crate::error::{Error, Result};
use crate::room::Room;

/// A SHA-256, checked when parsed; as text 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sha256Hash([u8; 32]);

impl Sha256Hash {
    /// The hash of these bytes.
    pub(crate) fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// That of all that went into `hasher`.
    pub(super) fn of_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// From 64 hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Result<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash)
            .map_err(|_| Error::invalid("a SHA-256 must be 64 hexadecimal digits"))?;
        Ok(Self(hash))
    }

    /// From the 32 bytes themselves.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let hash =
            bytes.try_into().map_err(|_| Error::invalid("a SHA-256 must be 32 bytes long"))?;
        Ok(Self(hash))
    }

    /// The 32 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for Sha256Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Sha256Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sha256Hash({self})")
    }
}

/// A content that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) hash: Sha256Hash,
    /// Zeros where it was not asked for.
    pub(crate) md5: [u8; 16],
    pub(crate) length: u64,
}

/// Which hashes of a content are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashes {
    /// The one that names it.
    Name,
    /// MD5 too.
    NameAndMd5,
}

/// Contents that nobody names are kept for this long after they were last asked for.
pub(crate) const CONTENT_AGE: Duration = Duration::from_secs(6 * 3_600);
/// And for so long after the upload that brought them was done: another one may count on them.
const RELEASED_AGE: Duration = Duration::from_secs(10 * 60);
/// The content-addressed store. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Cas {
    root: PathBuf,
    pub(super) tmp: PathBuf,
    room: Option<Room>,
    pub(super) unsettled: super::blocks::Unsettled,
    pub(super) packs: Packs,
}

impl Cas {
    pub(crate) fn new(root: PathBuf, tmp: PathBuf) -> Self {
        // Beside the directories of contents, whose names are two digits.
        let packs = Packs::new(root.join("packs"));
        Self { root, tmp, room: None, unsettled: super::blocks::Unsettled::default(), packs }
    }

    /// Takes in nothing for which there is no room.
    pub(crate) fn within(self, room: Room) -> Self {
        Self { room: Some(room), ..self }
    }

    pub(super) fn check_room(&self) -> Result<()> {
        self.room.as_ref().map_or(Ok(()), Room::check)
    }

    /// Where the content with this hash lies, or would lie. Read-only: link it or copy it.
    pub(crate) fn path_of(&self, hash: &Sha256Hash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// The directory of all contents.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the content is here. If so, it is kept for a while from now: its age starts anew.
    pub(crate) fn contains(&self, hash: &Sha256Hash) -> bool {
        self.is_settled(hash) && touch(&self.path_of(hash)).is_ok()
    }

    /// Says that an upload is done with these: a while from now they may go, unless somebody asks for
    /// them again. Blocks.
    pub(crate) fn release(&self, hashes: impl Iterator<Item = Sha256Hash>) {
        for hash in hashes {
            if self.packs.release(&hash) {
                continue;
            }
            // One that stays longer takes room, and no more.
            let _ = set_aged(&self.path_of(&hash));
            self.unsettled.forget(&hash);
        }
    }

    /// The length of a content in bytes; `None` if it is not here.
    pub(crate) fn length(&self, hash: &Sha256Hash) -> Option<u64> {
        fs::metadata(self.path_of(hash)).ok().map(|metadata| metadata.len())
    }

    /// Opens a content for reading.
    pub(crate) fn open(&self, hash: &Sha256Hash) -> Result<File> {
        let path = self.path_of(hash);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::not_found("content", hash),
            _ => Error::file("open", &path)(error),
        })
    }

    /// Takes in bytes that are in memory. Blocks.
    pub(crate) fn put_bytes(&self, data: &[u8]) -> Result<Sha256Hash> {
        let hash = Sha256Hash::of(data);
        if self.contains(&hash) {
            return Ok(hash);
        }
        self.check_room()?;
        let create = Error::file("create a file in", &self.tmp);
        let mut temporary = NamedTempFile::new_in(&self.tmp).map_err(create)?;
        temporary.write_all(data).map_err(Error::file("write", temporary.path()))?;
        self.place(temporary, &hash)?;
        Ok(hash)
    }

    /// Moves a complete file to where its hash says. Blocks.
    pub(super) fn place(&self, temporary: NamedTempFile, hash: &Sha256Hash) -> Result<()> {
        let path = self.path_of(hash);
        let file = temporary.as_file();
        let read_only = fs::Permissions::from_mode(0o444);
        file.set_permissions(read_only).map_err(Error::file("set the mode of", &path))?;
        file.sync_data().map_err(Error::file("sync", &path))?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        }
        temporary.persist(&path).map_err(|error| Error::file("write", &path)(error.error))?;
        durable::sync_parent(&path)
    }
}

/// Sets the file's age to zero.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    set_age(path, SystemTime::now())
}

/// Makes the file so old that it may go in a while.
pub(super) fn set_aged(path: &Path) -> io::Result<()> {
    set_age(path, SystemTime::now() - (CONTENT_AGE - RELEASED_AGE))
}

fn set_age(path: &Path, modified: SystemTime) -> io::Result<()> {
    let file = File::open(path)?;
    // Not being allowed to is no reason to say that the content is missing.
    let _ = file.set_times(fs::FileTimes::new().set_modified(modified));
    Ok(())
}

/// Reads a whole content of a known small size. Blocks.
pub(crate) fn read_at_most(file: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(file.stream_position()?);
    let mut data = Vec::with_capacity(usize::try_from(left.min(limit)).unwrap_or(0));
    file.take(limit).read_to_end(&mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_64_digits_and_nothing_else() {
        assert!(Sha256Hash::from_hex("../../../etc/passwd").is_err());
        assert!(Sha256Hash::from_hex("").is_err());
        let hash = Sha256Hash::of(b"");
        assert_eq!(Sha256Hash::from_hex(&hash.to_string()).unwrap(), hash);
        assert!(Sha256Hash::from_bytes(&[0; 31]).is_err());
    }
}
