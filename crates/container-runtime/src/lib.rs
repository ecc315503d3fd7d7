//! Isolated processes on this Linux machine: namespaces, overlay root, limits, exec, streams.
//!
//! A [`Runtime`] makes [`Container`]s; a container runs [`Process`]es. Three kinds of processes:
//!
//! ```text
//! your program (tokio)
//!   └─ spawner: the same binary re-executed, single-threaded         dies with your program
//!        ├─ init of container A: pid 1 of its pid namespace          dies with the spawner
//!        │    ├─ exec 1: ids shifted, capabilities cut, seccomp      dies with init
//!        │    └─ exec 2 …
//!        └─ init of container B …
//! ```
//!
//! So killing any of them, even with SIGKILL, takes everything below with it; what can remain are empty control
//! groups and scratch directories, which the next [`Runtime::start`] over the same state directory removes.
//!
//! Every binary that hosts a runtime begins `main` with [`run_if_spawner`].
//!
//! The crate knows nothing of images, of Modal, or of how output is stored; [`stream`] offers the record of one
//! output descriptor. `unsafe` is confined to the modules `sys` (raw calls) and `child` (between fork and exec).
//! On systems other than Linux everything compiles and [`Runtime::start`] answers [`Error::Unsupported`].

mod attach;
mod capabilities;
mod error;
mod spec;
pub mod stream;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

pub use attach::AttachSpec;
pub use capabilities::{Capabilities, LimitsBackend, Mode};
pub use error::{Error, Result};
#[cfg(target_os = "linux")]
pub use linux::{Container, Input, Output, Process, Runtime, host_root, run_if_spawner};
#[cfg(not(target_os = "linux"))]
pub use other::{Container, Input, Output, Process, Runtime, host_root, run_if_spawner};
pub use spec::{
    Builtin, ContainerId, ContainerSpec, Ended, ExecSpec, Exit, ExitStatus, GeneratedFile, Limits,
    Mount, NetworkSpec, PtySize, RootSpec, RuntimeConfig, Stdio, Upper, Usage,
};
