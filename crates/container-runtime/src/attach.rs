//! What is mounted in a container while it runs.

use std::path::PathBuf;

/// An overlay to mount in a running container; see [`Container::attach`](crate::Container::attach).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSpec {
    /// Directories of this machine, lowest first; at least one and at most 24. Owned inside as the root's layers are.
    pub layers: Vec<PathBuf>,
    /// Holds two empty directories, `upper` and `work`: what programs change goes into the first.
    pub changes: PathBuf,
    /// Inside; made if missing. An absolute path without `..`, not below `/proc`, `/sys` or `/dev`.
    pub target: PathBuf,
}
