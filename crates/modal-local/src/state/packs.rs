//! Small blocks of volumes, one after the other in a few files.
//!
//! A file of its own costs a small block more than everything else about it, and most are needed once, seconds after they
//! came. A pack is a file in the store's directory `packs` and ages like a content: [`crate::gc`] removes it when nobody
//! has asked for one of its blocks for hours, or some minutes after all of them are where they belong.
//!
//! A record is the block's SHA-256, its length (4 bytes, little-endian) and its bytes. Records are written one at a time, so
//! that a killed server tears the last one at most. They are not synced: who finds one in another life of the server
//! gets it only if its bytes still have their hash.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cas::{Sha256Hash, set_aged, touch};
use crate::error::{Error, Result};
use crate::ids::random_suffix;

/// Longer blocks have files of their own.
pub(super) const LONGEST: usize = 64 << 10;
/// A pack of this length is full.
const FULL: u64 = 32 << 20;
/// Nothing is added to a pack that was left alone for so long: it might be on its way out.
const FRESH: Duration = Duration::from_secs(60);
const HEAD: usize = 32 + 4;

/// The packs of a store. Clones share them; they are read when somebody asks first.
#[derive(Clone, Debug)]
pub(super) struct Packs {
    directory: PathBuf,
    shelf: Arc<Mutex<Option<Shelf>>>,
}

#[derive(Debug, Default)]
struct Shelf {
    packs: HashMap<Number, Pack>,
    places: HashMap<Sha256Hash, Place>,
    /// The one that is written to.
    current: Option<Number>,
    next: Number,
}

type Number = u32;

#[derive(Debug)]
struct Pack {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
    /// Blocks that somebody may still come for.
    wanted: usize,
    /// When its age last began anew, in this life of the server.
    touched: Option<Instant>,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    pack: Number,
    offset: u64,
    length: u32,
    is_wanted: bool,
    /// Whether its bytes are known to have its hash.
    is_checked: bool,
}

impl Packs {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, shelf: Arc::default() }
    }

    /// Adds a block whose hash was checked. Blocks.
    pub(super) fn put(&self, hash: &Sha256Hash, data: &[u8]) -> Result<()> {
        let written = self.open().and_then(|mut shelf| {
            let shelf = shelf.get_or_insert_default();
            if shelf.has(hash) { Ok(()) } else { shelf.add(&self.directory, hash, data) }
        });
        written.map_err(Error::file("write a block in", &self.directory))
    }

    /// Whether the block is here and whole. If so, it is kept for a while from now. Blocks.
    pub(super) fn has(&self, hash: &Sha256Hash) -> bool {
        self.open().is_ok_and(|mut shelf| shelf.get_or_insert_default().has(hash))
    }

    /// The block's bytes, if it is here. Blocks.
    pub(super) fn get(&self, hash: &Sha256Hash) -> Option<Vec<u8>> {
        let (file, place) = {
            let mut shelf = self.open().ok()?;
            let shelf = shelf.get_or_insert_default();
            let place = *shelf.places.get(hash)?;
            (Arc::clone(&shelf.packs.get(&place.pack)?.file), place)
        };
        let data = read(&file, &place).ok()?;
        (place.is_checked || Sha256Hash::of(&data) == *hash).then_some(data)
    }

    /// Says that an upload is done with the block. `false` if it is none of these. Blocks.
    pub(super) fn release(&self, hash: &Sha256Hash) -> bool {
        self.open().is_ok_and(|mut shelf| shelf.get_or_insert_default().release(hash))
    }

    /// The shelf, read from the disk if this is the first time.
    fn open(&self) -> io::Result<MutexGuard<'_, Option<Shelf>>> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.is_none() {
            *shelf = Some(Shelf::read(&self.directory)?);
        }
        Ok(shelf)
    }
}

impl Shelf {
    /// The packs of earlier servers.
    fn read(directory: &Path) -> io::Result<Self> {
        let mut shelf = Self::default();
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(shelf),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            // One that can't be read is one whose blocks are not here.
            if let Err(error) = shelf.adopt(&path) {
                tracing::warn!(pack = %path.display(), %error, "blocks can't be read");
            }
        }
        Ok(shelf)
    }

    /// Takes in what a pack holds, up to the record that was under way when its server was killed.
    fn adopt(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let number = self.number();
        let (mut offset, mut wanted) = (0, 0);
        while offset + HEAD as u64 <= end {
            let mut head = [0; HEAD];
            file.read_exact_at(&mut head, offset)?;
            let (hash, length) = head.split_at(32);
            let Ok(hash) = Sha256Hash::from_bytes(hash) else { break };
            let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
            let start = offset + HEAD as u64;
            if length as usize > LONGEST || start + u64::from(length) > end {
                break;
            }
            let place =
                Place { pack: number, offset: start, length, is_wanted: true, is_checked: false };
            self.places.insert(hash, place);
            wanted += 1;
            offset = start + u64::from(length);
        }
        let pack = Pack {
            path: path.to_owned(),
            file: Arc::new(file),
            length: end,
            wanted,
            touched: None,
        };
        self.packs.insert(number, pack);
        Ok(())
    }

    fn number(&mut self) -> Number {
        self.next += 1;
        self.next
    }

    fn has(&mut self, hash: &Sha256Hash) -> bool {
        let Some(place) = self.places.get_mut(hash) else { return false };
        let Some(pack) = self.packs.get_mut(&place.pack) else { return false };
        if !place.is_checked {
            place.is_checked =
                read(&pack.file, place).is_ok_and(|data| Sha256Hash::of(&data) == *hash);
        }
        if !place.is_checked || !pack.keep() {
            self.places.remove(hash);
            return false;
        }
        if !place.is_wanted {
            place.is_wanted = true;
            pack.wanted += 1;
        }
        true
    }

    fn add(&mut self, directory: &Path, hash: &Sha256Hash, data: &[u8]) -> io::Result<()> {
        let number = match self.current.filter(|it| self.packs.get(it).is_some_and(Pack::has_room))
        {
            Some(number) => number,
            None => self.begin(directory)?,
        };
        let Some(pack) = self.packs.get_mut(&number) else { return Ok(()) };
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let record = [hash.as_bytes().as_slice(), &length.to_le_bytes(), data].concat();
        if let Err(error) = pack.file.write_all_at(&record, pack.length) {
            // What is there of it is no record, and nothing may come after it.
            self.current = None;
            return Err(error);
        }
        let offset = pack.length + HEAD as u64;
        pack.length += record.len() as u64;
        pack.wanted += 1;
        pack.touched = Some(Instant::now());
        let place = Place { pack: number, offset, length, is_wanted: true, is_checked: true };
        self.places.insert(*hash, place);
        Ok(())
    }

    /// A new pack; those that are gone from the disk are forgotten.
    fn begin(&mut self, directory: &Path) -> io::Result<Number> {
        self.packs.retain(|_, pack| pack.path.exists());
        self.places.retain(|_, place| self.packs.contains_key(&place.pack));
        fs::create_dir_all(directory)?;
        let path = directory.join(random_suffix());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let number = self.number();
        let pack = Pack { path, file: Arc::new(file), length: 0, wanted: 0, touched: None };
        self.packs.insert(number, pack);
        self.current = Some(number);
        Ok(number)
    }

    fn release(&mut self, hash: &Sha256Hash) -> bool {
        let Some(place) = self.places.get_mut(hash) else { return false };
        let was_wanted = std::mem::take(&mut place.is_wanted);
        if let Some(pack) = self.packs.get_mut(&place.pack).filter(|_| was_wanted) {
            pack.wanted -= 1;
            if pack.wanted == 0 {
                pack.touched = None;
                // One that stays longer takes room, and no more.
                let _ = set_aged(&pack.path);
            }
        }
        true
    }
}

impl Pack {
    fn has_room(&self) -> bool {
        // One whose blocks are all where they belong is as good as gone, unless it was written to just now.
        self.length < FULL && self.touched.is_some_and(|at| at.elapsed() < FRESH)
    }

    /// Lets its age begin anew. `false` if it is gone.
    fn keep(&mut self) -> bool {
        if self.touched.is_some_and(|at| at.elapsed() < FRESH) {
            return true;
        }
        let is_there = touch(&self.path).is_ok();
        self.touched = is_there.then(Instant::now);
        is_there
    }
}

fn read(file: &File, place: &Place) -> io::Result<Vec<u8>> {
    let mut data = vec![0; place.length as usize];
    file.read_exact_at(&mut data, place.offset)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn packs(dir: &tempfile::TempDir) -> Packs {
        Packs::new(dir.path().join("packs"))
    }

    fn put(packs: &Packs, data: &[u8]) -> Sha256Hash {
        let hash = Sha256Hash::of(data);
        packs.put(&hash, data).unwrap();
        hash
    }

    fn files(dir: &tempfile::TempDir) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir.path().join("packs")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn age(path: &Path) -> Duration {
        let modified = fs::metadata(path).unwrap().modified().unwrap();
        SystemTime::now().duration_since(modified).unwrap_or_default()
    }

    #[test]
    fn blocks_lie_in_one_file_and_another_life_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let before = packs(&dir);
        let blocks: Vec<Vec<u8>> = (0..100).map(|n| format!("block {n}").into_bytes()).collect();
        let hashes: Vec<_> = blocks.iter().map(|data| put(&before, data)).collect();
        put(&before, &blocks[7]);
        assert_eq!(files(&dir).len(), 1);
        for life in [before, packs(&dir)] {
            for (hash, data) in hashes.iter().zip(&blocks) {
                assert!(life.has(hash));
                assert_eq!(life.get(hash).as_ref(), Some(data));
            }
            assert!(!life.has(&Sha256Hash::of(b"other")));
            assert_eq!(life.get(&Sha256Hash::of(b"other")), None);
        }
    }

    #[test]
    fn what_a_kill_or_a_power_cut_tore_is_not_here_and_can_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let before = packs(&dir);
        let (first, torn, last) =
            (put(&before, b"first"), put(&before, b"torn"), put(&before, b"last"));
        let path = files(&dir).remove(0);
        let contents = fs::read(&path).unwrap();
        let at = contents.windows(4).position(|it| it == b"torn").unwrap();
        let mut changed = contents[..contents.len() - 1].to_vec();
        changed[at] = b'T';
        fs::write(&path, changed).unwrap();
        let after = packs(&dir);
        assert_eq!(after.get(&torn), None);
        assert_eq!([first, torn, last].map(|hash| after.has(&hash)), [true, false, false]);
        put(&after, b"torn");
        put(&after, b"last");
        assert_eq!(after.get(&torn).unwrap(), b"torn");
        assert!(packs(&dir).has(&last));
    }

    #[test]
    fn a_pack_ages_once_all_its_blocks_are_released_and_is_kept_when_one_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let packs = packs(&dir);
        let (one, two) = (put(&packs, b"one"), put(&packs, b"two"));
        let path = files(&dir).remove(0);
        packs.release(&one);
        packs.release(&one);
        assert!(age(&path) < FRESH);
        packs.release(&two);
        assert!(age(&path) > Duration::from_secs(3_600), "{:?}", age(&path));
        // Nothing is added to what is on its way out.
        put(&packs, b"three");
        assert_eq!(files(&dir).len(), 2);
        assert!(packs.has(&one));
        assert!(age(&path) < FRESH);
    }

    #[test]
    fn what_the_garbage_collector_removed_is_not_here() {
        let dir = tempfile::tempdir().unwrap();
        let packs = packs(&dir);
        let hash = put(&packs, b"block");
        packs.release(&hash);
        fs::remove_file(files(&dir).remove(0)).unwrap();
        assert!(!packs.has(&hash));
        put(&packs, b"block");
        assert!(packs.has(&hash));
    }
}
