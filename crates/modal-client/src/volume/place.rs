//! A block written where it belongs while it comes: each piece is hashed and written while it is fresh in the caches.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{received::BlockDigest, room};
use crate::{error::BoxError, http::Arriving};

/// Pieces that came and are not yet written.
const PIECES: usize = 4;

/// Where a block goes. Clones are the same place.
#[derive(Clone)]
pub(super) struct Place {
    file: Arc<Mutex<File>>,
    offset: u64,
    length: u64,
    /// How far an attempt has written: zeros that the next one is not sent must be zeros.
    soiled: Arc<AtomicU64>,
}

/// Why a block that came is not in its place.
#[derive(Debug)]
pub(super) enum Misfit {
    /// It is not what the server says it is.
    Block(String),
    /// The file can't be written.
    Write(io::Error),
}

impl Place {
    /// The `length` bytes of `file` from `offset` on; zeros at their end need not be sent, but must be there.
    pub(super) fn new(file: Arc<Mutex<File>>, offset: u64, length: u64) -> Self {
        Self { file, offset, length, soiled: Arc::default() }
    }

    /// Writes what comes. Dropping this stops it; what came is written by then or soon after.
    ///
    /// # Errors
    /// The transfer broke off: it can be repeated. What no repetition helps is inside.
    pub(super) async fn fill(
        self,
        mut answer: Arriving,
        digest: Option<BlockDigest>,
    ) -> Result<Result<(), Misfit>, BoxError> {
        let (pieces, arriving) = mpsc::channel(PIECES);
        let writing = tokio::task::spawn_blocking(move || self.write(arriving, digest));
        let came = loop {
            let piece = match answer.piece().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if pieces.send(piece).await.is_err() {
                // Who writes says itself why it wants no more.
                break Ok(());
            }
        };
        drop(pieces);
        // Nothing writes there any more when the next attempt begins.
        let written = writing.await?;
        came.map(|()| written)
    }

    fn write(
        self,
        mut pieces: mpsc::Receiver<Bytes>,
        digest: Option<BlockDigest>,
    ) -> Result<(), Misfit> {
        let (mut at, mut sha256) = (0, Sha256::new());
        while let Some(piece) = pieces.blocking_recv() {
            let end = at + piece.len() as u64;
            if end > self.length {
                let length = self.length;
                let problem =
                    format!("a block has {end} bytes or more instead of {length} at most");
                return Err(Misfit::Block(problem));
            }
            if digest.is_some() {
                sha256.update(&piece);
            }
            self.soiled.fetch_max(end, Ordering::Relaxed);
            self.write_at(at, &piece).map_err(Misfit::Write)?;
            at = end;
        }
        let soiled = self.soiled.load(Ordering::Relaxed).saturating_sub(at);
        self.write_at(at, &vec![0; soiled as usize]).map_err(Misfit::Write)?;
        self.leave_zeros(at);
        if digest.is_some_and(|digest| digest != <[u8; 32]>::from(sha256.finalize())) {
            let problem = "a block does not have the digest that the server gives for it";
            return Err(Misfit::Block(problem.to_owned()));
        }
        Ok(())
    }

    /// What was not sent is zeros already.
    fn leave_zeros(&self, at: u64) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        room::give_back(&file, self.offset + at, self.length.saturating_sub(at));
    }

    fn write_at(&self, at: u64, piece: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.offset + at))?;
        file.write_all(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(length: u64) -> (Place, std::path::PathBuf, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create_new(&path).unwrap();
        file.set_len(10).unwrap();
        (Place::new(Arc::new(Mutex::new(file)), 2, length), path, directory)
    }

    fn write(
        place: Place,
        pieces: &[&'static [u8]],
        digest: Option<BlockDigest>,
    ) -> Option<Misfit> {
        let (sender, receiver) = mpsc::channel(pieces.len());
        for piece in pieces {
            sender.try_send(Bytes::from_static(piece)).unwrap();
        }
        drop(sender);
        place.write(receiver, digest).err()
    }

    #[test]
    fn pieces_lie_one_behind_the_other_and_zeros_need_not_come() {
        let (place, path, _directory) = place(6);
        let digest = <[u8; 32]>::from(Sha256::digest("abcd"));
        assert!(write(place, &[b"ab", b"cd"], Some(digest)).is_none());
        assert_eq!(std::fs::read(path).unwrap(), b"\0\0abcd\0\0\0\0");
    }

    #[test]
    fn nothing_of_an_attempt_that_broke_off_is_left_behind_a_shorter_block() {
        let (place, path, _directory) = place(6);
        assert!(write(place.clone(), &[b"abcde"], None).is_none());
        assert!(write(place, &[b"xy"], None).is_none());
        assert_eq!(std::fs::read(path).unwrap(), b"\0\0xy\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_too_long_or_something_else_is_told() {
        for (length, digest) in [(3, None), (4, Some([0; 32]))] {
            let (place, _path, _directory) = place(length);
            let misfit = write(place, &[b"ab", b"cd"], digest);
            assert!(matches!(misfit, Some(Misfit::Block(_))), "{length}: {misfit:?}");
        }
    }
}
