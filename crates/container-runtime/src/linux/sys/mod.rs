//! The raw calls that neither the standard library nor rustix wraps, each behind a safe or a precisely unsafe function.
//!
//! Nothing here decides anything; the order of calls is the business of `child`.

#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

mod identity;
mod mount;
mod network;
mod packet;
mod process;
mod signals;

pub(crate) use identity::*;
pub(crate) use mount::*;
pub(crate) use network::*;
pub(crate) use packet::*;
pub(crate) use process::*;
pub(crate) use signals::*;

use std::io;

/// The libc convention: -1 means look at `errno`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
