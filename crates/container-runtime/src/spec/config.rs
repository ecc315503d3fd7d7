//! How a runtime is started.

use std::path::PathBuf;

/// How a runtime is started.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where instances keep locks and scratch directories. Made 0700 if missing; must not lie inside a layer.
    pub state_dir: PathBuf,
    /// The program that becomes the spawner; by default this very binary, whose `main` must then
    /// begin with [`crate::run_if_spawner`].
    pub spawner: Option<PathBuf>,
    /// How many containers may be in the making at once; more wait in line. Default: twice the cores.
    pub max_parallel_creates: usize,
}

impl RuntimeConfig {
    /// The defaults over `state_dir`.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { state_dir: state_dir.into(), spawner: None, max_parallel_creates: 2 * cores }
    }
}
