//! For tests of clients of Modal's API: a server that answers from a recording of the official SDK and compares every
//! request with the recorded one ([`Replay`]), and the server below it, in raw messages ([`raw`]).
//!
//! The recordings are those of `fixtures/wire`, whose README says how they were made.

#![allow(clippy::unwrap_used, reason = "it serves tests: one that meets an error has failed")]

pub mod raw;
mod recording;

pub use self::recording::{Exceptions, Replay};
