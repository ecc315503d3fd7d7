//! Files below a directory, as ripgrep sees them: what version control ignores is left out.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ignore::{WalkBuilder, overrides::Override, types::Types};

/// Time for one search. What was found until then is shown.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a search has to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn start() -> Self {
        Deadline(Instant::now() + PATIENCE)
    }

    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Said under the results of a search that took too long.
pub(crate) const STOPPED_EARLY: &str =
    "[Stopped after 60 seconds; there may be more. Search a smaller part of the tree.]";

/// Files below `root` in order of their names. Hidden ones count; `.git` and what is ignored does not. Links are
/// not followed.
pub(crate) fn files(
    root: &Path,
    chosen: Override,
    types: Types,
) -> impl Iterator<Item = ignore::DirEntry> {
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .overrides(chosen)
        .types(types)
        .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != ".git")
        .sort_by_file_name(Ord::cmp)
        .build();
    walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_some_and(|kind| !kind.is_dir()))
}
