//! The parent of all services of a deployed container, and the door in front of them.
//!
//! A [`Plan`] says what runs: services in order, each with the variables it may see, a health check and a
//! deadline, and doors, which are the only ports that the outside reaches. [`run`] carries it out: it
//! starts what the plan names, forwards what it writes with the service's name before each line, and ends
//! all of it, last started first, as soon as it is told to stop or one service ends by itself.
//!
//! Programs are started through this program's own command `launch` ([`launch`]), so that whoever calls
//! [`run`] must have that command.
//!
//! Between LiteLLM's callback and Langfuse, a spool keeps traces on disk until Langfuse has them.
//!
//! A PostgreSQL of the plan works on the container's disk and is kept as base backups and WAL in a directory that
//! outlives the container; whoever calls [`run`] must have the commands `archive-wal` and `fetch-wal` for it. That
//! one container writes at a time is kept in a [`Register`]: a directory, or what a binary gives to [`program::main`].
//!
//! It knows nothing of Modal, LiteLLM or vLLM: what they need is in the plan. The plan holds no secret:
//! those come from the environment, by name.

mod ask;
mod calls;
mod door;
mod environment;
mod error;
mod health;
mod log;
pub mod plan;
mod postgres;
mod process;
pub mod program;
mod spool;
mod supervisor;
mod user;

pub use self::door::LIFE as LIFE_HEADER;
pub use self::environment::Environment;
pub use self::error::{Error, Result, StoreError};
pub use self::log::Log;
pub use self::plan::Plan;
pub use self::postgres::{
    OpenRegister, PostgresError, Register, RegisterError, archive as archive_wal,
    fetch as fetch_wal,
};
pub use self::process::launch;
pub use self::supervisor::run;
pub use secret_string::SecretString;
