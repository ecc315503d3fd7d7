//! The commands, as the SDKs write them: `{"ReadFile": {"path": "/x"}}`.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Deserialize;

use super::failure::{Failure, Kind};

/// One operation on the sandbox's files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) enum Command {
    /// The file's bytes to stdout.
    ReadFile { path: PathBuf },
    /// Stdin into the file; missing parents are made.
    WriteFile { path: PathBuf },
    /// The directory's entries as a JSON array.
    ListFiles { path: PathBuf },
    /// One entry as a JSON object; a symbolic link is itself.
    Stat { path: PathBuf },
    /// A new directory. With `parents`, missing ones are made and an existing directory is fine.
    MakeDirectory {
        path: PathBuf,
        #[serde(default = "yes")]
        parents: bool,
    },
    /// Removes a file, a link, an empty directory or, with `recursive`, a tree.
    Remove {
        path: PathBuf,
        #[serde(default)]
        recursive: bool,
    },
    /// Opens a file in one of Python's modes: makes or empties it, and closes it again.
    Open { path: PathBuf, mode: String },
    /// A piece of a file to stdout.
    ReadAt(ReadAtOptions),
    /// Stdin into a file; then to stdout where it ended.
    WriteAt(WriteAtOptions),
    /// The sandbox's containers, by name, in a file like `/etc/hosts`.
    SetNames { path: PathBuf, names: Vec<(Ipv4Addr, String)> },
    /// Changes below a path, one JSON object a line, until stdin ends.
    Watch(WatchOptions),
}

/// Which piece of a file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct ReadAtOptions {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    /// Bytes, at most.
    pub(super) most: u64,
    /// To the end of the line.
    #[serde(default)]
    pub(super) line: bool,
    /// Not the bytes but how many the file has.
    #[serde(default)]
    pub(super) size: bool,
}

/// Where in a file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct WriteAtOptions {
    pub(super) path: PathBuf,
    /// Without one at the end, wherever that is by then.
    pub(super) offset: Option<u64>,
}

/// What to watch for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct WatchOptions {
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) recursive: bool,
    /// Names of event types; without it, all.
    #[serde(default)]
    pub(super) filter: Option<Vec<String>>,
    #[serde(default)]
    pub(super) timeout_secs: Option<f64>,
}

impl Command {
    pub(super) fn from_args(args: &[OsString]) -> Result<Self, Failure> {
        let usage = |detail: String| {
            Failure::new(Kind::Io, "expected one argument, a JSON command", detail)
        };
        let [_, json] = args else { return Err(usage(format!("{} arguments", args.len()))) };
        let json = json.to_str().ok_or_else(|| usage("the argument is not UTF-8".to_owned()))?;
        serde_json::from_str(json).map_err(|error| usage(error.to_string()))
    }
}

fn yes() -> bool {
    true
}
