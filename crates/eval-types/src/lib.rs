//! The words of an evaluation as types: what `sandbox-runner` produces and `results-store` keeps.
//!
//! A [`Run`] works on tasks; a task in one [`Variant`] and repetition is a [`Trial`]; a trial holds
//! its [`Attempt`]s, of which none is ever deleted; how it ended is an [`Outcome`], the one type for
//! that in this workspace. Everything here is plain data: no I/O, no knowledge of where a trial ran
//! or how it is stored, so that the runner and the store need not know each other.

mod allowance;
mod id;
mod outcome;
mod run;
mod trial;

pub use crate::{
    allowance::{Allowance, InvalidPrice, Price},
    id::{InvalidId, RunId, TaskId, TrialKey},
    outcome::{Outcome, Verdict},
    run::{ModelSource, Run},
    trial::{Attempt, TokenUsage, Trial, Variant, Verification},
};
