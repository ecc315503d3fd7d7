//! Everything that runs in the spawner, in a container's init, and between fork and exec.
//!
//! All of these have one thread, so fork leaves consistent memory and the heap may be used.

#![expect(unsafe_code, reason = "fork, exec and what is sound only in a process with one thread")]

mod attach;
mod device;
mod exec;
mod groups;
mod init;
mod layers;
mod root;
mod spawner;
mod userns;

pub use spawner::run_if_spawner;
pub(crate) use spawner::{PROBE_PROGRAM, SPAWNER_NAME, main_cooperates};

use std::io;

/// A step of making a container that failed.
#[derive(Debug)]
struct Failure {
    stage: String,
    source: io::Error,
}

impl Failure {
    fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

/// Names the step in which an error came up.
trait Stage<T> {
    fn stage(self, name: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Stage<T> for Result<T, E> {
    fn stage(self, name: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let source: io::Error = error.into();
            let stage = match source.raw_os_error() {
                Some(_) => name(),
                // Without a number the text would be lost on the way to the server.
                None => format!("{}: {source}", name()),
            };
            Failure { stage, source }
        })
    }
}
