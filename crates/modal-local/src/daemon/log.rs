//! The log file of a background server: bounded, with the part before the last cut beside it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::state_dir::StateDir;

/// A log longer than this is set aside and begun anew.
const MAX_BYTES: u64 = 8 << 20;

/// Opens the log for a server to be started.
pub(super) fn open(dir: &StateDir) -> Result<File> {
    set_aside_long(dir);
    let path = dir.log();
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600).append(true);
    options.open(&path).map_err(Error::file("open", &path))
}

/// Keeps a log within bounds while its server writes to it.
///
/// The file is copied and emptied, not renamed: the server holds it open, and appends. Best effort:
/// a log that cannot be shortened grows on.
pub(super) fn set_aside_long(dir: &StateDir) {
    if let Err(error) = set_aside(&dir.log(), &dir.old_log(), MAX_BYTES) {
        tracing::warn!(%error, "the log could not be shortened");
    }
}

fn set_aside(log: &Path, old: &Path, limit: u64) -> std::io::Result<()> {
    let is_long = fs::metadata(log).is_ok_and(|it| it.len() > limit);
    if !is_long {
        return Ok(());
    }
    fs::copy(log, old)?;
    OpenOptions::new().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_long_log_is_set_aside_and_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (log, old) = (dir.path().join("log"), dir.path().join("old"));
        let mut writer = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writer.write_all(b"0123456789").unwrap();
        set_aside(&log, &old, 10).unwrap();
        assert!(!old.exists());
        writer.write_all(b"x").unwrap();
        set_aside(&log, &old, 10).unwrap();
        writer.write_all(b"next").unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"0123456789x");
        assert_eq!(fs::read(&log).unwrap(), b"next");
    }
}
