//! The real program, its services shell scripts and servers of the test.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod door;
mod harness;
mod life;
mod postgres;
mod spool;
