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

use futures::{Stream, StreamExt as _};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use super::packs::Packs;
use crate::durable;
use crate::error::{BoxError, Error, Result};
use crate::room::Room;

/// A SHA-256, checked when parsed; as text 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sha256Hash([u8; 32]);

impl Sha256Hash {
    /// The hash of these bytes.
    pub(crate) fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
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

/// A content under way: hashed while it is written, put in its place by [`Incoming::keep`].
pub(crate) struct Incoming {
    file: tokio::fs::File,
    temporary: NamedTempFile,
    sha256: Sha256,
    /// Asked for by blobs alone, and three times as long to compute as the other.
    md5: Option<Md5>,
    length: u64,
}

/// Contents that nobody names are kept for this long after they were last asked for.
pub(crate) const CONTENT_AGE: Duration = Duration::from_secs(6 * 3_600);
/// And for so long after the upload that brought them was done: another one may count on them.
const RELEASED_AGE: Duration = Duration::from_secs(10 * 60);
/// After so many bytes of an upload the disk is looked at again.
const CHECKED: u64 = 16 << 20;

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

    /// Begins to take in a content.
    pub(crate) fn begin(&self, hashes: Hashes) -> Result<Incoming> {
        let create = Error::file("create a file in", &self.tmp);
        let temporary = NamedTempFile::new_in(&self.tmp).map_err(create)?;
        let file = temporary.reopen().map_err(Error::file("open", temporary.path()))?;
        let file = tokio::fs::File::from_std(file);
        let md5 = (hashes == Hashes::NameAndMd5).then(Md5::new);
        Ok(Incoming { file, temporary, sha256: Sha256::new(), md5, length: 0 })
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

    /// Takes in a stream of at most `limit` bytes.
    pub(crate) async fn put_stream<S, E>(
        &self,
        mut stream: S,
        limit: u64,
        hashes: Hashes,
    ) -> Result<Incoming>
    where
        S: Stream<Item = Result<bytes::Bytes, E>> + Unpin,
        E: Into<BoxError>,
    {
        self.check_room()?;
        let (mut incoming, mut checked) = (self.begin(hashes)?, 0);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                Error::invalid(format!("the upload broke off: {}", error.into()))
            })?;
            incoming.write(&chunk, limit).await?;
            if incoming.length - checked >= CHECKED {
                self.check_room()?;
                checked = incoming.length;
            }
        }
        Ok(incoming)
    }

    /// Moves a complete file to where its hash says. Blocks.
    fn place(&self, temporary: NamedTempFile, hash: &Sha256Hash) -> Result<()> {
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

impl Incoming {
    /// Adds bytes; an error once there are more than `limit`.
    pub(crate) async fn write(&mut self, data: &[u8], limit: u64) -> Result<()> {
        self.length += data.len() as u64;
        if self.length > limit {
            return Err(Error::invalid(format!("the upload is longer than {limit} bytes")));
        }
        self.sha256.update(data);
        if let Some(md5) = &mut self.md5 {
            md5.update(data);
        }
        self.file.write_all(data).await.map_err(Error::file("write", self.temporary.path()))
    }

    /// What came in so far.
    pub(crate) fn stored(&self) -> Stored {
        Stored {
            hash: Sha256Hash(self.sha256.clone().finalize().into()),
            md5: self.md5.clone().map_or([0; 16], |md5| md5.finalize().into()),
            length: self.length,
        }
    }

    /// Puts the content in its place as a block; see [`Cas::put_block`].
    pub(crate) async fn keep_block(mut self, cas: &Cas) -> Result<Stored> {
        let stored = self.stored();
        self.file.flush().await.map_err(Error::file("write", self.temporary.path()))?;
        let cas = cas.clone();
        crate::blocking::run(move || cas.place_block(self.temporary, &stored.hash)).await?;
        Ok(stored)
    }

    /// Puts the content in its place.
    pub(crate) async fn keep(mut self, cas: &Cas) -> Result<Stored> {
        let stored = self.stored();
        self.file.flush().await.map_err(Error::file("write", self.temporary.path()))?;
        let cas = cas.clone();
        crate::blocking::run(move || cas.place(self.temporary, &stored.hash)).await?;
        Ok(stored)
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

    fn cas() -> (tempfile::TempDir, Cas) {
        let dir = tempfile::tempdir().unwrap();
        for part in ["cas", "tmp"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let cas = Cas::new(dir.path().join("cas"), dir.path().join("tmp"));
        (dir, cas)
    }

    fn chunks(parts: &[&'static str]) -> impl Stream<Item = io::Result<bytes::Bytes>> + Unpin {
        futures::stream::iter(parts.iter().map(|part| Ok((*part).into())).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_stream_is_stored_under_its_hash() {
        let (_dir, cas) = cas();
        let incoming =
            cas.put_stream(chunks(&["hello ", "world"]), 100, Hashes::NameAndMd5).await.unwrap();
        let stored = incoming.keep(&cas).await.unwrap();
        assert_eq!(stored.hash, Sha256Hash::of(b"hello world"));
        assert_eq!(hex::encode(stored.md5), "5eb63bbbe01eeed093cb22bb8f5acdc3");
        assert!(cas.contains(&stored.hash));
        assert_eq!(cas.length(&stored.hash), Some(11));
        let mode = fs::metadata(cas.path_of(&stored.hash)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
    }

    #[tokio::test]
    async fn what_is_not_kept_leaves_nothing() {
        let (dir, cas) = cas();
        drop(cas.put_stream(chunks(&["hello"]), 100, Hashes::Name).await.unwrap());
        cas.put_stream(chunks(&["hello"]), 4, Hashes::Name).await.map(drop).unwrap_err();
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
        assert!(!cas.contains(&Sha256Hash::of(b"hello")));
    }

    #[test]
    fn a_hash_is_64_digits_and_nothing_else() {
        assert!(Sha256Hash::from_hex("../../../etc/passwd").is_err());
        assert!(Sha256Hash::from_hex("").is_err());
        let hash = Sha256Hash::of(b"");
        assert_eq!(Sha256Hash::from_hex(&hash.to_string()).unwrap(), hash);
        assert!(Sha256Hash::from_bytes(&[0; 31]).is_err());
    }
}
