//! Long checks. Each drives the real commands and answers with figures for a closing note.

pub(crate) mod agent;
#[cfg(target_os = "linux")]
pub(crate) mod crash;
pub(crate) mod faults;
pub(crate) mod figures;
#[cfg(target_os = "linux")]
pub(crate) mod flood;
pub(crate) mod kill;
pub(crate) mod litellm;
#[cfg(target_os = "linux")]
pub(crate) mod paths;
mod random;
#[cfg(target_os = "linux")]
pub(crate) mod tools;
