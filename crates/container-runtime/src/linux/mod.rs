//! The runtime itself. See the crate's documentation for the processes involved.

mod attach;
mod cgroup;
mod channel;
mod child;
mod container;
pub mod host_root;
mod instance;
mod message;
mod probe;
mod process;
mod ranges;
mod remove_tree;
mod runtime;
mod seccomp;
mod spawner_link;
mod sys;
mod wire;

pub use child::run_if_spawner;
pub use container::Container;
pub use process::{Input, Output, Process};
pub use runtime::Runtime;
