//! Images as clients see them: real builds in real containers, over gRPC.
//!
//! Most run on this machine's own programs as the base, which need no network. Those that make a
//! Debian base need its mirror and root, and share one base in the target directory.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod builds;
mod debian;
mod harness;
