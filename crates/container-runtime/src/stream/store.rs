//! Where the bytes of a log lie: memory first, then one unlinked file, always with a bounded size.
//!
//! Retained are a *head*, which starts at offset 0, and a *ring* behind it, which holds the newest bytes. As
//! long as the ring has not wrapped the two are contiguous and nothing is lost.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much of one output descriptor is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Bytes held in memory before anything is written to disk.
    pub memory: u64,
    /// Bytes held on disk at most: the first half and the last half of it are kept, the middle is dropped.
    /// Zero means that nothing is written to disk, and `memory` is split in the same way.
    pub spill: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self { memory: 1 << 20, spill: 64 << 20 }
    }
}

/// The bounded bytes of one log. Not shared: [`super::OutputLog`] puts it behind a lock.
#[derive(Debug)]
pub(super) struct Store {
    spill_dir: PathBuf,
    caps: Caps,
    head: Backing,
    head_cap: u64,
    ring: Option<Ring>,
    total: u64,
}

impl Store {
    pub(super) fn new(spill_dir: PathBuf, caps: Caps) -> Self {
        let head = Backing::Memory(Vec::new());
        Self { spill_dir, caps, head, head_cap: caps.memory, ring: None, total: 0 }
    }

    /// All bytes ever appended, kept or not.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that lie between head and ring and cannot be read any more.
    pub(super) fn dropped(&self) -> u64 {
        if self.total <= self.head_cap { 0 } else { self.tail_start() - self.head_cap }
    }

    /// Appends `data`. Never fails: a disk that refuses costs old output, not the newest.
    pub(super) fn append(&mut self, data: &[u8]) {
        if self.ring.is_none() && self.total + data.len() as u64 > self.head_cap {
            self.add_ring();
        }
        let (head, rest) = data.split_at(self.head_room().min(data.len() as u64) as usize);
        match self.head.write_at(self.total, head) {
            Ok(()) => {
                self.total += head.len() as u64;
                self.append_to_ring(rest);
            }
            Err(error) => {
                self.keep_in_memory(&error);
                self.append_to_ring(data);
            }
        }
    }

    /// The offset from which on a reader must have read so that appending `more` bytes takes nothing from it.
    /// Some room is left for a reader that comes back a little before the place where it broke off.
    pub(super) fn must_be_read(&self, more: usize) -> Option<u64> {
        let after = self.total + more as u64;
        let half = if self.caps.spill == 0 { self.caps.memory / 2 } else { self.caps.spill / 2 };
        let (end, cap) =
            self.ring.as_ref().map_or((half * 2, half), |ring| (ring.start + ring.cap, ring.cap));
        (after > end).then(|| (after - cap.min(after) + cap / 4).min(self.total))
    }

    /// Up to `max` bytes at `offset` or, where those are gone, the first that are left after it.
    /// The answer's offset says which; `None` means that nothing is there yet.
    pub(super) fn read(&self, offset: u64, max: usize) -> Option<(u64, Vec<u8>)> {
        if offset >= self.total {
            return None;
        }
        if offset < self.head_len() {
            let size = (self.head_len() - offset).min(max as u64) as usize;
            return Some((offset, self.head.read_at(offset, size)));
        }
        let ring = self.ring.as_ref()?;
        let offset = offset.max(self.tail_start());
        let size = (self.total - offset).min(max as u64) as usize;
        Some((offset, ring.read(offset, size)))
    }

    fn head_len(&self) -> u64 {
        self.total.min(self.head_cap)
    }

    fn head_room(&self) -> u64 {
        self.head_cap.saturating_sub(self.total)
    }

    fn tail_start(&self) -> u64 {
        self.ring.as_ref().map_or(self.total, |ring| ring.tail_start(self.total))
    }

    /// The log outgrew memory: moves it to a file or, where that fails, splits memory into head and ring.
    fn add_ring(&mut self) {
        match self.spill() {
            Ok(Some(file)) => {
                self.head = Backing::File(Arc::clone(&file));
                self.head_cap = (self.caps.spill / 2).max(self.total);
                let cap = (self.caps.spill / 2).max(1);
                self.ring = Some(Ring {
                    start: self.head_cap,
                    cap,
                    base: self.head_cap,
                    backing: Backing::File(file),
                });
            }
            Ok(None) => self.split_memory(),
            Err(error) => {
                tracing::warn!(dir = %self.spill_dir.display(), %error, "output cannot be spilled to disk; old output will be dropped");
                self.split_memory();
            }
        }
    }

    fn spill(&self) -> io::Result<Option<Arc<File>>> {
        if self.caps.spill == 0 {
            return Ok(None);
        }
        let file = unlinked_file(&self.spill_dir)?;
        file.write_all_at(&self.head.read_at(0, self.total as usize), 0)?;
        Ok(Some(Arc::new(file)))
    }

    fn split_memory(&mut self) {
        let half = (self.caps.memory / 2).max(1);
        let newer = self.head.read_at(half, self.total.saturating_sub(half) as usize);
        self.head_cap = half;
        self.total = self.total.min(half);
        self.ring = Some(Ring::in_memory(half, half));
        self.append_to_ring(&newer);
    }

    /// The file refused a write: what follows is kept in memory, what the file's ring held is given up.
    fn keep_in_memory(&mut self, error: &io::Error) {
        tracing::warn!(dir = %self.spill_dir.display(), %error, "spilled output can no longer be written; old output will be dropped");
        self.head_cap = self.head_len();
        self.ring = Some(Ring::in_memory(self.total, self.caps.memory.max(1)));
    }

    fn append_to_ring(&mut self, data: &[u8]) {
        let Some(ring) = self.ring.as_mut().filter(|_| !data.is_empty()) else { return };
        if let Err(error) = ring.write(self.total, data) {
            self.keep_in_memory(&error);
            if let Some(Err(error)) = self.ring.as_mut().map(|ring| ring.write(self.total, data)) {
                tracing::warn!(%error, "output lost");
            }
        }
        self.total += data.len() as u64;
    }
}

/// The newest `cap` bytes from offset `start` on, written round and round at `base`.
#[derive(Debug)]
struct Ring {
    start: u64,
    cap: u64,
    base: u64,
    backing: Backing,
}

impl Ring {
    fn in_memory(start: u64, cap: u64) -> Self {
        Self { start, cap, base: 0, backing: Backing::Memory(Vec::new()) }
    }

    fn tail_start(&self, total: u64) -> u64 {
        self.start.max(total.saturating_sub(self.cap))
    }

    /// Where `offset` lies, and how many bytes follow it before the ring wraps.
    fn position(&self, offset: u64) -> (u64, usize) {
        let inside = (offset - self.start) % self.cap;
        (self.base + inside, (self.cap - inside) as usize)
    }

    fn write(&mut self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        let excess = (data.len() as u64).saturating_sub(self.cap);
        offset += excess;
        data = &data[excess as usize..];
        while !data.is_empty() {
            let (position, room) = self.position(offset);
            let (now, later) = data.split_at(room.min(data.len()));
            self.backing.write_at(position, now)?;
            offset += now.len() as u64;
            data = later;
        }
        Ok(())
    }

    fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let (position, room) = self.position(offset);
        self.backing.read_at(position, size.min(room))
    }
}

#[derive(Debug)]
enum Backing {
    Memory(Vec<u8>),
    File(Arc<File>),
}

impl Backing {
    fn write_at(&mut self, position: u64, data: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all_at(data, position),
            Self::Memory(bytes) => {
                let (start, end) = (position as usize, position as usize + data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
                Ok(())
            }
        }
    }

    /// Exactly the bytes asked for. A file that cannot be read gives zeros, so that offsets stay true.
    fn read_at(&self, position: u64, size: usize) -> Vec<u8> {
        match self {
            Self::Memory(bytes) => {
                let end = (position as usize + size).min(bytes.len());
                bytes.get(position as usize..end).unwrap_or_default().to_vec()
            }
            Self::File(file) => {
                let mut data = vec![0; size];
                if let Err(error) = file.read_exact_at(&mut data, position) {
                    tracing::warn!(%error, position, size, "spilled output cannot be read back");
                }
                data
            }
        }
    }
}

/// A file without a name in `dir`: it is gone when its last holder is, however the process ends.
fn unlinked_file(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let unnamed = options.clone().custom_flags(libc::O_TMPFILE).open(dir);
    match unnamed {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
            ) =>
        {
            let path = dir.join(unique_name());
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        settled => settled,
    }
}

fn unique_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("output-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(from: usize, len: usize) -> Vec<u8> {
        (from..from + len).map(|at| (at % 251) as u8).collect()
    }

    fn kept(store: &Store) -> Vec<(u64, Vec<u8>)> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut offset = 0;
        while let Some((at, data)) = store.read(offset, 7) {
            offset = at + data.len() as u64;
            match runs.last_mut() {
                Some((start, bytes)) if *start + bytes.len() as u64 == at => bytes.extend(data),
                _ => runs.push((at, data)),
            }
        }
        runs
    }

    fn filled(dir: &Path, caps: Caps, total: usize, step: usize) -> Store {
        let mut store = Store::new(dir.to_owned(), caps);
        let mut at = 0;
        while at < total {
            let len = step.min(total - at);
            store.append(&numbered(at, len));
            at += len;
        }
        store
    }

    #[test]
    fn everything_is_kept_until_the_cap() {
        let dir = tempfile::tempdir().unwrap();
        for total in [0, 1, 63, 64, 65, 255, 256] {
            let store = filled(dir.path(), Caps { memory: 64, spill: 256 }, total, 10);
            assert_eq!(store.dropped(), 0, "{total} bytes");
            let expected = if total == 0 { vec![] } else { vec![(0, numbered(0, total))] };
            assert_eq!(kept(&store), expected, "{total} bytes");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the spill file has no name");
    }

    #[test]
    fn beyond_the_cap_the_middle_is_dropped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        for step in [1, 10, 100, 1000] {
            let store = filled(dir.path(), Caps { memory: 64, spill: 256 }, 1000, step);
            assert_eq!(store.dropped(), 1000 - 256, "step {step}");
            assert_eq!(
                kept(&store),
                [(0, numbered(0, 128)), (872, numbered(872, 128))],
                "step {step}"
            );
        }
    }

    #[test]
    fn without_disk_memory_holds_both_ends() {
        for dir in ["/nonexistent/spill", "/"] {
            let spill = if dir == "/" { 0 } else { 256 };
            let store = filled(Path::new(dir), Caps { memory: 64, spill }, 500, 9);
            assert_eq!(kept(&store), [(0, numbered(0, 32)), (468, numbered(468, 32))]);
            assert_eq!(store.dropped(), 500 - 64);
        }
    }

    #[test]
    fn a_disk_that_fills_up_costs_old_output_only() {
        let mut store = Store::new(PathBuf::from("/"), Caps { memory: 16, spill: 64 });
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let full = Arc::new(full);
        store.append(b"0123456789");
        store.head_cap = 32;
        store.ring = Some(Ring { start: 32, cap: 32, base: 32, backing: Backing::File(full) });
        store.append(&[b'a'; 30]);
        store.append(b"newest");
        let everything = [b"0123456789".as_slice(), &[b'a'; 30], b"newest"].concat();
        assert_eq!(kept(&store), [(0, everything)]);
        store.append(&[b'b'; 16]);
        assert_eq!(store.total(), 62);
        assert_eq!(kept(&store)[1], (46, vec![b'b'; 16]), "memory holds the newest bytes");
    }
}
