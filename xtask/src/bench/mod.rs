//! The measurements of `selfbench`: ours and each peer's, in one run on one machine.

pub(crate) mod agent;
#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod bubblewrap;
pub(crate) mod client_calls;
mod clock;
#[cfg(target_os = "linux")]
pub(crate) mod commands;
#[cfg(target_os = "linux")]
pub(crate) mod langfuse;
#[cfg(target_os = "linux")]
pub(crate) mod lifecycle;
#[cfg(target_os = "linux")]
pub(crate) mod live;
#[cfg(target_os = "linux")]
mod memory;
mod python;
mod samples;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
pub(crate) mod transfer;
