//! Keeps what evaluations produced: rows in SQLite, files in an object store.
//!
//! - [`Index`] is this machine's list of runs, trials and attempts. It answers fast, knows runs that
//!   never ended, and tells which sandboxes a killed run left behind.
//! - [`RunFiles`] is the layout of the results volume, over any [`object_store::ObjectStore`]: a
//!   local directory, a Modal volume, memory. The files are what other people and older tools read.
//! - [`mod@format`] is the format of those files, in both directions. What older versions of Goat wrote
//!   is read too; what a newer version wrote is refused with a sentence.
//!
//! The crate knows nothing of Modal: whoever wants a volume hands in an object store that is one.

mod cause;
mod error;
mod files;
pub mod format;
mod index;

pub use crate::{
    error::{Error, Result},
    files::{Artifact, RunFiles, StoredRun},
    index::{Index, OpenAttempt, RunRow, TriedAttempt},
};
