//! Contents under way to the store: each piece is hashed and written as soon as it came, where blocking is allowed.

use std::io::Write as _;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::cas::{Cas, Hashes, Sha256Hash, Stored};
use crate::blocking;
use crate::error::{BoxError, Error, Result};

/// After so many bytes of an upload the disk is looked at again.
const CHECKED: u64 = 16 << 20;
/// Pieces of a stream that came and are not yet written.
const PIECES: usize = 4;

/// A content under way: put in its place by [`Incoming::keep`], and gone when dropped.
pub(crate) struct Incoming {
    temporary: NamedTempFile,
    sha256: Sha256,
    /// Asked for by blobs alone, and three times as long to compute as the other.
    md5: Option<Md5>,
    length: u64,
}

impl Cas {
    /// Begins to take in a content.
    pub(crate) fn begin(&self, hashes: Hashes) -> Result<Incoming> {
        let create = Error::file("create a file in", &self.tmp);
        let temporary = NamedTempFile::new_in(&self.tmp).map_err(create)?;
        let md5 = (hashes == Hashes::NameAndMd5).then(Md5::new);
        Ok(Incoming { temporary, sha256: Sha256::new(), md5, length: 0 })
    }

    /// Takes in a stream of at most `limit` bytes.
    pub(crate) async fn put_stream<S, E>(
        &self,
        mut stream: S,
        limit: u64,
        hashes: Hashes,
    ) -> Result<Incoming>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<BoxError>,
    {
        let (pieces, arriving) = mpsc::channel(PIECES);
        let cas = self.clone();
        let written = blocking::start(move || cas.write_pieces(arriving, limit, hashes));
        let came = loop {
            let piece = match stream.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            };
            if pieces.send(piece).await.is_err() {
                // Who writes says itself why it wants no more.
                break Ok(());
            }
        };
        drop(pieces);
        let written = written.await;
        came.map_err(|error| Error::invalid(format!("the upload broke off: {error}")))?;
        written
    }

    fn write_pieces(
        &self,
        mut pieces: mpsc::Receiver<Bytes>,
        limit: u64,
        hashes: Hashes,
    ) -> Result<Incoming> {
        self.check_room()?;
        let (mut incoming, mut checked) = (self.begin(hashes)?, 0);
        while let Some(piece) = pieces.blocking_recv() {
            incoming.write(&piece, limit)?;
            if incoming.length - checked >= CHECKED {
                self.check_room()?;
                checked = incoming.length;
            }
        }
        Ok(incoming)
    }
}

impl Incoming {
    /// Adds bytes; an error once there are more than `limit`. Blocks.
    pub(crate) fn write(&mut self, data: &[u8], limit: u64) -> Result<()> {
        self.length += data.len() as u64;
        if self.length > limit {
            return Err(Error::invalid(format!("the upload is longer than {limit} bytes")));
        }
        self.sha256.update(data);
        if let Some(md5) = &mut self.md5 {
            md5.update(data);
        }
        let written = self.temporary.as_file_mut().write_all(data);
        written.map_err(|error| Error::file("write", self.temporary.path())(error))
    }

    /// What came in so far.
    pub(crate) fn stored(&self) -> Stored {
        Stored {
            hash: Sha256Hash::of_hasher(self.sha256.clone()),
            md5: self.md5.clone().map_or([0; 16], |md5| md5.finalize().into()),
            length: self.length,
        }
    }

    /// Puts the content in its place as a block; see [`Cas::put_block`].
    pub(crate) async fn keep_block(self, cas: &Cas) -> Result<Stored> {
        let (stored, cas) = (self.stored(), cas.clone());
        blocking::run(move || cas.place_block(self.temporary, &stored.hash)).await?;
        Ok(stored)
    }

    /// Puts the content in its place.
    pub(crate) async fn keep(self, cas: &Cas) -> Result<Stored> {
        let (stored, cas) = (self.stored(), cas.clone());
        blocking::run(move || cas.place(self.temporary, &stored.hash)).await?;
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::{fs, io};

    use super::*;

    fn cas() -> (tempfile::TempDir, Cas) {
        let dir = tempfile::tempdir().unwrap();
        for part in ["cas", "tmp"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let cas = Cas::new(dir.path().join("cas"), dir.path().join("tmp"));
        (dir, cas)
    }

    fn chunks(parts: &[&'static str]) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
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
        let broken = futures::stream::iter([Ok("hello".into()), Err(io::Error::other("broken"))]);
        let error = cas.put_stream(broken, 100, Hashes::Name).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("broke off: broken"), "{error}");
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
        assert!(!cas.contains(&Sha256Hash::of(b"hello")));
    }
}
