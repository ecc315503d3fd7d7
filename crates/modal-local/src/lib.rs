//! Modal's API served from this machine: state, image builds, volumes and sandboxes for real.
//!
//! Start one in this process with [`Server::start`], or make sure that one runs in the background
//! with [`daemon::ensure_running`]. Every client of Modal can drive it: give it the URL and token of
//! the [`ServerHandle`](daemon::ServerHandle) as `MODAL_SERVER_URL`, `MODAL_TOKEN_ID` and
//! `MODAL_TOKEN_SECRET`. It listens on loopback alone, and answers nothing without the token.
//!
//! Records live in SQLite, file contents in a content-addressed store, volumes as plain directories,
//! secrets in files that only their owner can read: all below one state directory.

mod activity;
mod auth;
mod caller;
mod clock;
mod ctx;
mod durable;
mod error;
pub mod fs_tools;
mod idempotency;
pub mod ids;
mod image;
mod sandbox;
mod secret_string;
mod server;
mod service;
mod state;
mod state_dir;

pub use crate::error::{Error, Result};
pub use crate::secret_string::SecretString;
pub use crate::server::{Server, ServerConfig, TokenPair};
pub use crate::state_dir::StateDir;
