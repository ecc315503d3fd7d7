//! What installing the SDKs has in common.

use std::{fs, path::Path, process::Command};

/// Runs a command that must succeed.
///
/// # Panics
/// Where it does not, with `why` and what the command said.
pub(crate) fn must(command: &mut Command, why: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{why}: {error}"));
    assert!(output.status.success(), "{why}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Holds an exclusive lock on `path` until dropped: tests run in several processes.
pub(crate) fn lock(path: &Path) -> fs::File {
    let file = fs::File::create(path).unwrap();
    file.lock().unwrap();
    file
}
