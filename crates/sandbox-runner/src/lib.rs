//! Tasks to sandboxes to results: concurrency, retries, cancellation, verification.
//!
//! [`benchmark::read`] makes [`Task`]s of a file, [`Plan::new`] makes trials of tasks, [`run`] runs
//! them: each in a sandbox of its own from a [`SandboxBackend`], with a [`ModelAccess`] that keeps
//! the model's key out of the sandbox, told step by step to [`Subscriber`]s.
//!
//! # What holds
//! - A sandbox that was made is ended on every path, and a failed end is in the record.
//! - Only what is ours (sandbox, network, disk) is tried again; each attempt is kept.
//! - Only a check makes a trial passed or failed. What the agent says of itself is a claim.
//! - The crate knows nothing of how results are stored, and prints nothing.

pub mod agent;
pub mod backend;
pub mod benchmark;
mod capture;
mod claims;
pub mod conformance;
mod dispatcher;
mod error;
mod event;
mod executor;
pub mod extras;
mod journal;
mod lease;
mod network;
mod plan;
mod preflight;
pub mod price;
pub mod relay;
mod secret;
mod stop;
mod task;
mod verify;

pub use crate::{
    backend::SandboxBackend,
    dispatcher::{Report, Runner, run},
    error::{BoxError, Error, Result, chain},
    event::{Descriptor, Event, Events, Subscriber, TrialFile},
    extras::{Extras, McpSource, SkillsSource, Traces},
    journal::Journal,
    network::Network,
    plan::{Defaults, Plan, PlannedTrial},
    relay::{ModelAccess, ModelGrant},
    secret::Secret,
    stop::{RECORDING, Stop},
    task::{Check, NONCE, Task, nonce},
};
