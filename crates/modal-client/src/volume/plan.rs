//! What an upload is about to send: its files, found and hashed.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::try_join_all;

use super::{blocks::Contents, hashed::Hashed, upload::Item};
use crate::{
    error::{Error, Operation, Result},
    local,
};

/// Files hashed at once.
const PARALLEL_HASHES: u64 = 4;
/// A file of at most this length stays in memory from its hashing to its sending: opening it again costs more.
const SMALL: u64 = 64 << 10;
/// The bytes that stay so, all files together.
const KEPT: u64 = 32 << 20;

/// A file whose blocks are known.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) contents: Contents,
    pub(crate) remote: String,
    pub(crate) mode: u32,
    pub(crate) hashed: Arc<Hashed>,
}

/// A file that is to be uploaded, not read yet.
pub(super) struct Found {
    pub(super) contents: Contents,
    pub(super) remote: String,
    pub(super) mode: u32,
}

impl From<local::LocalFile> for Found {
    fn from(file: local::LocalFile) -> Self {
        Self { contents: Contents::File(file.path), remote: file.remote, mode: file.mode }
    }
}

/// Finds the files and hashes their blocks.
pub(super) async fn plan(items: Vec<Item>, operation: &Operation) -> Result<Vec<Planned>> {
    let hashing = Hashing::of(find_all(items, operation).await?);
    let hashers = (0..PARALLEL_HASHES).map(|_| {
        let files = Arc::clone(&hashing.0);
        tokio::task::spawn_blocking(move || hash_some(&files))
    });
    let hashers = try_join_all(hashers).await;
    let lost =
        |error: tokio::task::JoinError| Error::file(operation.clone(), "(files)", error.into());
    let mut hashed = Vec::new();
    for some in hashers.map_err(lost)? {
        hashed.extend(some.map_err(|it| Error::file(operation.clone(), it.path, it.source))?);
    }
    hashed.sort_unstable_by_key(|(place, _)| *place);
    Ok(hashed.into_iter().map(|(_, planned)| planned).collect())
}

/// The files, not read yet.
pub(super) async fn find_all(items: Vec<Item>, operation: &Operation) -> Result<Vec<Found>> {
    match tokio::task::spawn_blocking(move || find(items)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Error::file(operation.clone(), error.path, error.source)),
        Err(error) => Err(Error::file(operation.clone(), "(local files)", error.into())),
    }
}

fn find(items: Vec<Item>) -> Result<Vec<Found>, local::Unreadable> {
    let mut found = Vec::new();
    for item in items {
        match item {
            Item::File { path, remote } => found.push(local::file(&path, &remote)?.into()),
            Item::Tree { root, remote, ignore } => {
                found.extend(local::tree(&root, &remote, &ignore)?.into_iter().map(Found::from));
            }
            Item::Bytes { data, remote, mode } => {
                found.push(Found { contents: Contents::Memory(data), remote, mode });
            }
        }
    }
    Ok(found)
}

/// Files that several threads hash. Dropped, or after an error, none begins another one.
struct Hashing(Arc<Mutex<Files>>);

struct Files {
    left: std::iter::Enumerate<std::vec::IntoIter<Found>>,
    /// How many bytes may still stay in memory.
    room: u64,
}

impl Hashing {
    fn of(found: Vec<Found>) -> Self {
        let files = Files { left: found.into_iter().enumerate(), room: KEPT };
        Self(Arc::new(Mutex::new(files)))
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        lock(&self.0).left = Vec::new().into_iter().enumerate();
    }
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hashes files until none is left: each with its place among all. Blocks.
fn hash_some(files: &Mutex<Files>) -> Result<Vec<(usize, Planned)>, local::Unreadable> {
    let mut hashed = Vec::new();
    loop {
        let (next, room) = {
            let mut files = lock(files);
            (files.left.next(), files.room)
        };
        let Some((place, found)) = next else { return Ok(hashed) };
        match hash(found, SMALL.min(room)) {
            Ok((planned, kept)) => {
                if kept > 0 {
                    let mut files = lock(files);
                    files.room = files.room.saturating_sub(kept);
                }
                hashed.push((place, planned));
            }
            Err(error) => {
                lock(files).left = Vec::new().into_iter().enumerate();
                return Err(error);
            }
        }
    }
}

/// And how many bytes stay in memory for it that were not there before.
fn hash(found: Found, keep: u64) -> Result<(Planned, u64), local::Unreadable> {
    let Found { contents, remote, mode } = found;
    let path = contents.path();
    let was_in_memory = matches!(contents, Contents::Memory(_));
    let hashed = contents.into_hashed(keep);
    let (contents, hashed) =
        hashed.map_err(|source: io::Error| local::Unreadable { path, source })?;
    let is_kept = !was_in_memory && matches!(contents, Contents::Memory(_));
    let kept = if is_kept { hashed.size } else { 0 };
    Ok((Planned { contents, remote, mode, hashed: Arc::new(hashed) }, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation() -> Operation {
        Operation::new("upload to", "volume `v`")
    }

    fn tree(root: &std::path::Path) -> Vec<Item> {
        let (root, remote) = (root.to_owned(), "/".to_owned());
        vec![Item::Tree { root, remote, ignore: crate::IgnoreRules::default() }]
    }

    #[tokio::test]
    async fn files_keep_their_order_and_small_ones_stay_in_memory_as_long_as_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let count = 20 + KEPT / SMALL;
        for n in 0..count {
            std::fs::write(dir.path().join(format!("{n:04}")), vec![1; SMALL as usize]).unwrap();
        }
        std::fs::write(dir.path().join("large"), vec![1; SMALL as usize + 1]).unwrap();
        let plan = plan(tree(dir.path()), &operation()).await.unwrap();
        let names: Vec<&str> = plan.iter().map(|file| file.remote.as_str()).collect();
        assert!(names.is_sorted() && names.len() as u64 == count + 1, "{names:?}");
        let in_memory = |file: &&Planned| matches!(&file.contents, Contents::Memory(it) if it.len() == SMALL as usize);
        let kept = plan.iter().filter(in_memory).count() as u64;
        // Each thread may be at one more when the room ends.
        assert!((KEPT / SMALL..KEPT / SMALL + PARALLEL_HASHES).contains(&kept), "{kept}");
        assert!(matches!(plan.last().unwrap().contents, Contents::File(_)));
        assert!(plan.iter().all(|file| file.hashed.blocks.len() == 1));
    }

    #[tokio::test]
    async fn a_file_that_cant_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<Item> = (0..9)
            .map(|n| Item::File { path: dir.path().join(n.to_string()), remote: format!("/{n}") })
            .collect();
        (0..9).for_each(|n| std::fs::write(dir.path().join(n.to_string()), "x").unwrap());
        let hashing = Hashing::of(find(files).unwrap());
        std::fs::remove_file(dir.path().join("3")).unwrap();
        let error = hash_some(&hashing.0).unwrap_err();
        assert_eq!(error.path, dir.path().join("3"));
        assert_eq!(hash_some(&hashing.0).unwrap().len(), 0);
    }
}
