//! Runs whose tokens are no longer taken.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

use eval_types::RunId;
use jiff::Timestamp;

use crate::error::{Error, Result};

/// Runs whose tokens are no longer taken, each with the time when its last token has expired anyway.
///
/// As a file: a line `<run> <unix time>` each; empty lines and such that begin with `#` say nothing. The hook in
/// the proxy reads the same file again whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedRuns {
    runs: BTreeMap<RunId, i64>,
}

impl RevokedRuns {
    /// Whether the run is revoked.
    pub fn contains(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    /// Revokes a run, whose last token expires at `until`.
    pub fn add(&mut self, run: RunId, until: Timestamp) {
        let until = until.as_second();
        self.runs.entry(run).and_modify(|kept| *kept = until.max(*kept)).or_insert(until);
    }

    /// Forgets runs whose tokens have expired.
    pub fn forget_expired(&mut self, now: Timestamp) {
        self.runs.retain(|_, until| *until > now.as_second());
    }

    /// Reads the lines.
    ///
    /// # Errors
    ///
    /// A line is not one: nothing is taken then, since a revoked run must not be let in by a broken file.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let runs = lines.map(|(number, line)| {
            let bad = || Error::RevokedLine { line: number };
            let (run, until) = line.split_once(' ').ok_or_else(bad)?;
            Ok((run.parse().map_err(|_| bad())?, until.trim().parse().map_err(|_| bad())?))
        });
        Ok(Self { runs: runs.collect::<Result<_>>()? })
    }

    /// Reads the file. No file: no run is revoked.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read, or a line is not one.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::RevokedFile { what: "read", path: path.to_owned(), source }),
        }
    }

    /// Writes the file: whole or not at all.
    ///
    /// # Errors
    ///
    /// The directory cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let written = || -> io::Result<()> {
            let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            for (run, until) in &self.runs {
                writeln!(file, "{run} {until}")?;
            }
            file.as_file().sync_all()?;
            file.persist(path)?;
            fs::File::open(directory)?.sync_all()
        };
        let path = path.to_owned();
        written().map_err(|source| Error::RevokedFile { what: "written", path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_old_runs_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revoked");
        assert_eq!(RevokedRuns::load(&path).unwrap(), RevokedRuns::default());
        let mut revoked = RevokedRuns::default();
        let time = |second| Timestamp::from_second(second).unwrap();
        revoked.add("run-1".parse().unwrap(), time(100));
        revoked.add("run-1".parse().unwrap(), time(50));
        revoked.add("run-2".parse().unwrap(), time(300));
        revoked.save(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "run-1 100\nrun-2 300\n");
        assert_eq!(RevokedRuns::load(&path).unwrap(), revoked);
        revoked.forget_expired(time(100));
        assert!(!revoked.contains(&"run-1".parse().unwrap()));
        assert!(revoked.contains(&"run-2".parse().unwrap()));
    }

    #[test]
    fn a_broken_line_is_an_error_not_a_run_let_in() {
        assert!(RevokedRuns::parse("# runs\n\nrun-1 100\n").is_ok());
        let error = RevokedRuns::parse("run-1 100\nrun-2\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2 of the revoked runs is not `<run> <unix time>`");
    }
}
