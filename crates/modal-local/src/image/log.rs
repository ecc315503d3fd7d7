//! The log of one build: kept on disk line by line, followed by any number of readers.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use modal_proto::client::FileDescriptor;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::logs::LogLine;

/// A build that writes more than this has its further output dropped, with a line that says so.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Where a piece of the log comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
    /// The builder itself.
    Info,
}

/// A piece of the log, as stored: one JSON object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) stream: Stream,
    /// Seconds since 1970.
    pub(crate) time: f64,
    pub(crate) text: String,
}

impl Stream {
    pub(crate) fn descriptor(self) -> FileDescriptor {
        match self {
            Self::Stdout => FileDescriptor::Stdout,
            Self::Stderr => FileDescriptor::Stderr,
            Self::Info => FileDescriptor::Info,
        }
    }
}

impl From<Entry> for LogLine {
    fn from(entry: Entry) -> Self {
        Self { data: entry.text, from: entry.stream.descriptor(), at: entry.time }
    }
}

/// A log under way. Clones share it.
#[derive(Clone)]
pub(crate) struct BuildLog {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    grown: watch::Sender<usize>,
}

struct State {
    file: File,
    entries: Vec<Entry>,
    bytes: usize,
}

impl BuildLog {
    /// An empty log at `path`, replacing that of an earlier attempt.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(Error::file("create", path))?;
        let state = Mutex::new(State { file, entries: Vec::new(), bytes: 0 });
        Ok(Self { shared: Arc::new(Shared { state, grown: watch::Sender::new(0) }) })
    }

    /// A sentence of the builder; a line end is added.
    pub(crate) fn info(&self, text: impl AsRef<str>) {
        self.append(Stream::Info, format!("{}\n", text.as_ref()));
    }

    /// Output as it came. Never fails: a full disk loses the stored log, not the build.
    pub(crate) fn append(&self, stream: Stream, text: String) {
        if text.is_empty() {
            return;
        }
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bytes > MAX_BYTES {
            return;
        }
        state.bytes += text.len();
        let text = if state.bytes > MAX_BYTES {
            format!("… further output dropped: the log is limited to {MAX_BYTES} bytes\n")
        } else {
            text
        };
        let entry = Entry { stream, time: crate::clock::now(), text };
        if let Ok(mut line) = serde_json::to_vec(&entry) {
            line.push(b'\n');
            if let Err(error) = state.file.write_all(&line) {
                tracing::warn!(%error, "could not store a line of a build log");
            }
        }
        state.entries.push(entry);
        let count = state.entries.len();
        drop(state);
        self.shared.grown.send_replace(count);
    }

    /// The entries from number `start` on.
    pub(crate) fn since(&self, start: usize) -> Vec<Entry> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.entries.get(start..).unwrap_or_default().to_vec()
    }

    /// Changes with every entry; its value is how many there are.
    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
        self.shared.grown.subscribe()
    }
}

/// The entries of a finished build; none if its log was removed.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    let mut entries = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(Error::file("read", path))?;
        // A line that a kill cut short is the last, and is left out.
        entries.extend(serde_json::from_str::<Entry>(&line).ok());
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = BuildLog::create(&path).unwrap();
        log.info("one");
        log.append(Stream::Stderr, "two \u{1b}[0m\nthree".to_owned());
        assert_eq!(log.since(0), read(&path).unwrap());
        assert_eq!(log.since(1).len(), 1);
        assert_eq!(*log.watch().borrow(), 2);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"st").unwrap();
        assert_eq!(read(&path).unwrap().len(), 2, "a cut line is left out");
    }

    #[test]
    fn the_stored_form() {
        let entry = Entry { stream: Stream::Info, time: 1.5, text: "building\n".to_owned() };
        insta::assert_json_snapshot!(entry);
    }
}
