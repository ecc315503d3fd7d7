//! Real containers on this machine: their life, their limits, what must not be possible inside, and crashes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in the tests' helpers a panic is a failed test")]

mod attach;
mod build;
mod crash;
mod escape;
mod lifecycle;
mod limits;
mod support;
mod user_mode;
