//! Calls that were answered, and whether the trace of each came.
//!
//! LiteLLM answers first and tells of it later, from memory: where it ends in between the trace is lost, and nobody
//! would know. So the door gives every call a name, which comes back in its trace, and writes down which calls were
//! answered whose trace has not come yet. What a process left so when it died was lost with it.
//!
//! Each process writes a file of its own: two containers may overlap, and on a volume the last one to write a file
//! wins. A line is `+` and a call that was answered, or `-` and one whose trace came after all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The header by which the door names a call to the proxy.
pub(crate) const HEADER: &str = "x-goat-call";
/// A trace that has not come for so long is lost: LiteLLM's callback sends every second and gives up after a few tries.
const DUE: Duration = Duration::from_secs(120);
/// Traces may come before their answer is through: so many are remembered.
const EARLY: usize = 20_000;
/// A file that is longer is written anew with what is open.
const LONGEST: u64 = 1 << 20;

/// Calls of a proxy.
#[derive(Debug)]
pub(crate) struct Calls {
    directory: PathBuf,
    /// This process among those that write there.
    process: String,
    next: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// Answered, and since when.
    answered: BTreeMap<String, Instant>,
    /// Traces that came first, in their order and to look them up.
    early: VecDeque<String>,
    is_early: BTreeSet<String>,
}

/// What is known of traces that did not come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Untraced {
    /// Answered calls whose trace is due.
    pub(crate) awaited: u64,
    /// Answered calls whose trace is lost.
    pub(crate) untraced: u64,
}

impl Calls {
    /// Begins a file of its own in the directory.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let process = format!("{:016x}", rand::random::<u64>());
        let file = append(&directory.join(&process))?;
        let (answered, early) = (BTreeMap::new(), VecDeque::new());
        let open = Open { file, bytes: 0, answered, early, is_early: BTreeSet::new() };
        let (directory, next) = (directory.to_owned(), AtomicU64::new(0));
        Ok(Self { directory, process, next, open: Mutex::new(open) })
    }

    /// A name for a call.
    pub(crate) fn name(&self) -> String {
        format!("{}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// It was answered, to the last byte.
    pub(crate) fn answered(&self, call: &str) -> io::Result<()> {
        let mut open = self.locked();
        if open.is_early.remove(call) {
            return Ok(());
        }
        open.answered.insert(call.to_owned(), Instant::now());
        self.write(&mut open, '+', call)
    }

    /// Its trace has come.
    pub(crate) fn traced(&self, call: &str) -> io::Result<()> {
        let mut open = self.locked();
        if open.answered.remove(call).is_some() {
            return self.write(&mut open, '-', call);
        }
        if open.is_early.insert(call.to_owned()) {
            open.early.push_back(call.to_owned());
        }
        if open.early.len() > EARLY
            && let Some(oldest) = open.early.pop_front()
        {
            open.is_early.remove(&oldest);
        }
        Ok(())
    }

    /// Traces that did not come, to this process or to those before it.
    pub(crate) fn untraced(&self) -> io::Result<Untraced> {
        let (all, late) = {
            let open = self.locked();
            let late = open.answered.values().filter(|since| since.elapsed() > DUE).count();
            (open.answered.len(), late)
        };
        let mut left = 0;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != *self.process && !name.to_string_lossy().starts_with('.') {
                left += open_in(&fs::read_to_string(entry.path())?);
            }
        }
        Ok(Untraced { awaited: (all - late) as u64, untraced: (late + left) as u64 })
    }

    fn write(&self, open: &mut Open, sign: char, call: &str) -> io::Result<()> {
        let line = format!("{sign}{call}\n");
        open.file.write_all(line.as_bytes())?;
        open.bytes += line.len() as u64;
        if open.bytes > LONGEST { self.shorten(open) } else { Ok(()) }
    }

    /// Writes the file anew, with what is open alone.
    fn shorten(&self, open: &mut Open) -> io::Result<()> {
        let text: String = open.answered.keys().map(|call| format!("+{call}\n")).collect();
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory)?;
        file.write_all(text.as_bytes())?;
        let path = self.directory.join(&self.process);
        file.persist(&path)?;
        open.file = append(&path)?;
        open.bytes = text.len() as u64;
        Ok(())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// How many calls of a file are answered and not traced. A last line that was cut is none.
fn open_in(text: &str) -> usize {
    let mut open = BTreeSet::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_at_checked(1) {
            Some(("+", call)) => drop(open.insert(call)),
            Some(("-", call)) => drop(open.remove(call)),
            _ => {}
        }
    }
    open.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: &Calls) -> (u64, u64) {
        let Untraced { awaited, untraced } = calls.untraced().unwrap();
        (awaited, untraced)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_process_left_open_is_lost_and_what_does_not_come_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Calls::open(directory.path()).unwrap();
        let names: Vec<_> = (0..4).map(|_| first.name()).collect();
        // A trace may overtake its answer.
        first.traced(&names[0]).unwrap();
        for name in &names {
            first.answered(name).unwrap();
        }
        first.traced(&names[1]).unwrap();
        assert_eq!(counts(&first), (2, 0));
        tokio::time::advance(DUE * 2).await;
        assert_eq!(counts(&first), (0, 2));
        first.traced(&names[2]).unwrap();
        assert_eq!(counts(&first), (0, 1));
        drop(first);

        let second = Calls::open(directory.path()).unwrap();
        assert!(!names.contains(&second.name()));
        assert_eq!(counts(&second), (0, 1));
    }

    #[test]
    fn a_file_stays_short() {
        let directory = tempfile::tempdir().unwrap();
        let calls = Calls::open(directory.path()).unwrap();
        calls.answered("kept").unwrap();
        for _ in 0..30_000 {
            let name = calls.name();
            calls.answered(&name).unwrap();
            calls.traced(&name).unwrap();
        }
        let path = directory.path().join(&calls.process);
        assert!(path.metadata().unwrap().len() < LONGEST);
        drop(calls);
        assert_eq!(counts(&Calls::open(directory.path()).unwrap()), (0, 1));
    }
}
