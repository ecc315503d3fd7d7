//! What Goat's services are made of, as data, and what it takes to set them up, as a function.
//!
//! [`catalog`] names the secrets and volumes of an environment. [`Values`] finds the values: in the file
//! [`EnvFile`], in the process's environment, by default, or made anew. [`SetupPlan::new`] compares them with
//! what is [`Deployed`] and says of each thing what will become of it and why; nothing here talks to a
//! server. A value is never shown: a [`Fingerprints`] key makes short marks of values, by which equal ones
//! are known.
//!
//! [`app`] describes the app `goat-services` that is deployed with them.

pub mod app;
pub mod catalog;
mod deployed;
mod env_file;
mod error;
mod fingerprint;
mod generate;
mod plan;
mod values;

pub use self::deployed::{Deployed, DeployedSecret};
pub use self::env_file::EnvFile;
pub use self::error::{Error, Result};
pub use self::fingerprint::{Fingerprint, Fingerprints};
pub use self::generate::Generator;
pub use self::plan::{
    Action, KeyPlan, KeyState, Problem, SecretPlan, SetupPlan, VolumePlan, Wishes,
};
pub use self::values::{Source, Values};
pub use secret_string::SecretString;
