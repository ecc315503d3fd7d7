//! The program `/__modal/.bin/modal-sandbox-fs-tools`: file operations inside a sandbox.

use std::ffi::OsString;

/// Runs one operation; answers the exit status.
pub fn main(_args: Vec<OsString>) -> i32 {
    2
}
