//! The program `/__modal/.bin/modal-sandbox-fs-tools`: Modal's file API, run inside a sandbox.
//!
//! The SDKs' file API is an exec of this path with one argument, a JSON command; contents travel over stdin and
//! stdout, a failure is one JSON object on stderr (see `command` and `failure`). In this server the path has
//! no file behind it: it is a builtin of the container runtime, run in a forked child that already has the
//! sandbox's root, ids and limits. Links, `/proc` tricks and permissions therefore resolve as they would for any
//! other program inside, and the server's own files are out of reach.
//!
//! The child is a fork of a single thread: plain `std::fs`, no runtime, no tracing. What is not a regular file
//! is never read or written, and nothing here waits for anything but its own stdin.
//!
//! Source of the formats: Modal's Python SDK 1.6.4, `_utils/sandbox_fs_utils.py`, `sandbox/_filesystem.py` and
//! `types.py`; a recorded conversation of that SDK. `Open`, `ReadAt` and `WriteAt` are this server's own, for the API
//! that SDKs had before (`service/router/old_files`), and `SetNames` for sidecars.

mod command;
mod directory;
mod failure;
mod info;
mod names;
mod open_file;
pub(crate) mod read;
mod users;
mod watch;
mod write;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use command::Command;
use failure::Failure;

/// Where a container's init finds this program.
pub const PATH: &str = "/__modal/.bin/modal-sandbox-fs-tools";
/// Exit status for a command that failed, with the reason on stderr.
pub const FAILED: i32 = 1;
/// Exit status for an argument that is no command.
pub const USAGE: i32 = 2;

/// Runs the command in `args`, which start with the program's own name, on this process's descriptors 0, 1 and 2.
/// Answers the exit status.
pub fn main(args: Vec<OsString>) -> i32 {
    let descriptors = || -> io::Result<(File, File)> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok((stdin.into(), stdout.into()))
    };
    let (status, report) = match descriptors() {
        Ok((stdin, mut stdout)) => run(&args, stdin, &mut stdout),
        Err(error) => (FAILED, Some(Failure::from(error))),
    };
    if let (Some(failure), Ok(stderr)) = (report, io::stderr().as_fd().try_clone_to_owned()) {
        // With stderr gone too there is nobody left to tell; the status still says it.
        let _ = writeln!(File::from(stderr), "{}", failure.to_json());
    }
    status
}

fn run(args: &[OsString], stdin: File, stdout: &mut dyn Write) -> (i32, Option<Failure>) {
    let command = match Command::from_args(args) {
        Ok(command) => command,
        Err(failure) => return (USAGE, Some(failure)),
    };
    match execute(command, stdin, stdout) {
        Ok(()) => (0, None),
        Err(failure) => (FAILED, Some(failure)),
    }
}

fn execute(command: Command, stdin: File, stdout: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::ReadFile { path } => read::read_file(&path, stdout),
        Command::WriteFile { path } => write::write_file(&path, stdin),
        Command::ListFiles { path } => info::list_files(&path, stdout),
        Command::Stat { path } => info::stat(&path, stdout),
        Command::MakeDirectory { path, parents } => directory::make(&path, parents),
        Command::Remove { path, recursive } => directory::remove(&path, recursive),
        Command::Open { path, mode } => open_file::open(&path, &mode),
        Command::ReadAt(options) => open_file::read(&options, stdout),
        Command::WriteAt(options) => open_file::write(&options, stdin, stdout),
        Command::SetNames { path, names } => names::set(&path, &names),
        Command::Watch(options) => watch::watch(&options, stdin, stdout),
    }
}

#[cfg(test)]
mod tests;
