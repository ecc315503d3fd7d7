//! A container's file system: layers, changes, what is shown of this machine, generated files.

use std::fmt;
use std::path::PathBuf;

/// The file system: read-only layers and one place for changes.
#[derive(Debug, Clone)]
pub struct RootSpec {
    /// Directories on this machine, lowest first. Ids on disk are those seen inside (0 to 65535).
    pub layers: Vec<PathBuf>,
    /// Where changes go.
    pub upper: Upper,
}

/// Where a container's changes go.
#[derive(Debug, Clone)]
pub enum Upper {
    /// Memory, gone with the container. It counts against the memory limit, so keep it below that.
    Tmpfs {
        /// At most this many bytes.
        bytes: u64,
        /// At most this many files.
        inodes: u64,
    },
    /// A directory on disk that the caller owns; afterwards it is a layer, with ids as seen inside.
    Dir {
        /// An empty directory, or one of an earlier container.
        upper: PathBuf,
        /// An empty directory on the same file system, for overlayfs itself.
        work: PathBuf,
    },
}

/// A directory or file of this machine shown inside, `nosuid,nodev`, owned by root inside where it is by uid 0 on disk.
#[derive(Debug, Clone)]
pub struct Mount {
    /// On this machine.
    pub source: PathBuf,
    /// A directory below `source` to show instead of it, if not empty. Unlike `source` it may be writable to containers:
    /// no link in it is followed.
    pub sub_path: PathBuf,
    /// Inside; made if missing.
    pub target: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
}

impl Mount {
    /// All of `source`, to be written to.
    pub fn new(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            sub_path: PathBuf::new(),
            target: target.into(),
            read_only: false,
        }
    }
}

/// A file that is not in any layer.
#[derive(Clone)]
pub struct GeneratedFile {
    /// Inside.
    pub path: PathBuf,
    /// All of it.
    pub contents: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

impl fmt::Debug for GeneratedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, contents, mode } = self;
        write!(f, "GeneratedFile({}, {} bytes, {mode:o})", path.display(), contents.len())
    }
}
