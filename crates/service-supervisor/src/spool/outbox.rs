//! Events that outlive the container: a file for each batch, on a volume.
//!
//! A volume is committed now and then, file by file, and of two containers that write one file the last one wins: it
//! is no place for a database. So a batch lies there in a file that is written once, by one container, and removed as
//! soon as its events need not be kept any more. Who comes later takes the files over, whoever wrote them. Where two
//! containers overlap both may hand an event on, which makes one row all the same: events name what they write.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::count::Counts;
use super::store::Event;

const EVENTS: &str = "events";
const COUNTS: &str = "counts";
/// The ends of names: not delivered, delivered.
const WAITING: &str = "json";
const DONE: &str = "done";

/// The directory on the volume, and who writes.
#[derive(Debug)]
pub(super) struct Outbox {
    directory: PathBuf,
    writer: String,
    next: AtomicU64,
}

/// A batch that somebody left.
#[derive(Debug)]
pub(super) struct Left {
    /// Its name, less its end.
    pub(super) name: String,
    /// Whether Langfuse took it.
    pub(super) is_done: bool,
    pub(super) events: Vec<Event>,
}

impl Outbox {
    pub(super) fn open(directory: &Path, writer: &str) -> io::Result<Self> {
        for name in [EVENTS, COUNTS] {
            fs::create_dir_all(directory.join(name))?;
        }
        let (directory, writer) = (directory.to_owned(), writer.to_owned());
        Ok(Self { directory, writer, next: AtomicU64::new(0) })
    }

    /// Writes a batch; when this returns it is on the disk. Answers its name.
    pub(super) fn put(&self, events: &[&Event]) -> io::Result<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Names in the order of time; two containers never choose the same.
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6f");
        let name = format!("{now}-{}-{number}", self.writer);
        let mut text = vec![b'['];
        for (index, event) in events.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&event.body);
        }
        text.push(b']');
        self.replace(EVENTS, &format!("{name}.{WAITING}"), &text)?;
        Ok(name)
    }

    /// Langfuse took all of it.
    pub(super) fn done(&self, name: &str) -> io::Result<()> {
        gone(fs::rename(self.path(name, WAITING), self.path(name, DONE)))
    }

    /// It need not be kept any more.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        gone(fs::remove_file(self.path(name, DONE)))?;
        gone(fs::remove_file(self.path(name, WAITING)))
    }

    /// All batches, the oldest first. One that can't be read is told by name and left as it is.
    pub(super) fn left(&self) -> io::Result<(Vec<Left>, Vec<String>)> {
        let (mut left, mut broken) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(self.directory.join(EVENTS))? {
            let path = entry?.path();
            let Some((name, is_done)) = parts(&path) else { continue };
            match read(&path) {
                Ok(events) => left.push(Left { name, is_done, events }),
                // Another container has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => broken.push(format!("{}: {error}", path.display())),
            }
        }
        left.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((left, broken))
    }

    /// Keeps this writer's counts.
    pub(super) fn count(&self, counts: &Counts) -> io::Result<()> {
        self.replace(COUNTS, &self.writer, serde_json::to_string(counts)?.as_bytes())
    }

    /// What other writers have counted.
    pub(super) fn counted_by_others(&self) -> io::Result<Vec<Counts>> {
        let mut counts = Vec::new();
        for entry in fs::read_dir(self.directory.join(COUNTS))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name != self.writer && !name.starts_with('.') {
                counts.extend(serde_json::from_slice::<Counts>(&fs::read(entry.path())?).ok());
            }
        }
        Ok(counts)
    }

    fn path(&self, name: &str, end: &str) -> PathBuf {
        self.directory.join(EVENTS).join(format!("{name}.{end}"))
    }

    /// Whole or not at all.
    fn replace(&self, below: &str, name: &str, text: &[u8]) -> io::Result<()> {
        let directory = self.directory.join(below);
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&directory)?;
        file.write_all(text)?;
        file.as_file().sync_all()?;
        file.persist(directory.join(name))?;
        fs::File::open(&directory)?.sync_all()
    }
}

/// What is not there need not go.
fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn parts(path: &Path) -> Option<(String, bool)> {
    let (name, end) = path.file_name()?.to_str()?.rsplit_once('.')?;
    let is_done = match end {
        WAITING => false,
        DONE => true,
        _ => return None,
    };
    (!name.starts_with('.')).then(|| (name.to_owned(), is_done))
}

fn read(path: &Path) -> io::Result<Vec<Event>> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let text = fs::read(path)?;
    let events: Vec<&RawValue> = serde_json::from_slice(&text)?;
    let event = |text: &RawValue| {
        let Named { id } = serde_json::from_str(text.get())?;
        Ok(Event { id, body: Bytes::copy_from_slice(text.get().as_bytes()) })
    };
    events.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str) -> Event {
        Event { id: id.to_owned(), body: Bytes::from(format!(r#"{{"id": "{id}"}}"#)) }
    }

    #[test]
    fn what_one_wrote_another_finds_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let first = Outbox::open(directory.path(), "one").unwrap();
        let name = first.put(&[&event("a"), &event("b")]).unwrap();
        let later = first.put(&[&event("c")]).unwrap();
        first.done(&name).unwrap();
        let counts = Counts { delivered: 2, ..Counts::default() };
        first.count(&counts).unwrap();

        let second = Outbox::open(directory.path(), "two").unwrap();
        let (left, broken) = second.left().unwrap();
        assert!(broken.is_empty(), "{broken:?}");
        let ids = |left: &Left| left.events.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
        assert_eq!((ids(&left[0]), left[0].is_done), (vec!["a".to_owned(), "b".to_owned()], true));
        assert_eq!((ids(&left[1]), left[1].is_done), (vec!["c".to_owned()], false));
        assert_eq!(second.counted_by_others().unwrap(), [counts]);
        assert_eq!(first.counted_by_others().unwrap(), []);
        for name in [&name, &later] {
            second.remove(name).unwrap();
            second.remove(name).unwrap();
        }
        assert!(first.left().unwrap().0.is_empty());
    }

    #[test]
    fn half_a_file_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(directory.path(), "one").unwrap();
        fs::write(outbox.path("x", WAITING), "[{\"id\"").unwrap();
        let (left, broken) = outbox.left().unwrap();
        assert!(left.is_empty() && broken[0].contains("x.json"), "{broken:?}");
    }
}
