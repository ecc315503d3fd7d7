//! The measurements of `selfbench`: ours and each peer's, in one run on one machine.

pub(crate) mod agent;
#[cfg(target_os = "linux")]
mod bare;
mod bubblewrap;
mod clock;
#[cfg(target_os = "linux")]
pub(crate) mod langfuse;
pub(crate) mod lifecycle;
mod python;
