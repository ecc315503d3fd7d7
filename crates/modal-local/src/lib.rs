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
mod blocking;
mod caller;
mod certificates;
mod clock;
mod connect;
pub mod coverage;
mod ctx;
pub mod daemon;
mod durable;
mod error;
pub mod failpoint;
pub mod fs_tools;
mod function;
pub mod gc;
mod http;
mod idempotency;
pub mod ids;
mod image;
mod login;
mod logs;
mod placement;
mod relay;
mod removal;
mod room;
mod sandbox;
mod server;
mod service;
mod sqlite;
mod state;
mod state_dir;
mod substitution;
mod web;

pub use crate::error::{Error, Result};
pub use crate::image::BasePolicy;
pub use crate::room::{DiskQuota, DiskReserve, DiskUsage, UsageByKind};
pub use crate::server::{Server, ServerConfig, TokenPair};
pub use crate::state::blobs::PartSizes;
pub use crate::state_dir::StateDir;
pub use crate::substitution::Substitution;
pub use secret_string::SecretString;

/// The programs that exist in every sandbox without a file. Whoever hosts a server passes them to
/// [`container_runtime::run_if_spawner`] in the first line of `main`.
pub fn builtins() -> &'static [container_runtime::Builtin] {
    use container_runtime::Builtin;
    const BUILTINS: &[Builtin] = &[
        Builtin { path: fs_tools::PATH, main: fs_tools::main },
        Builtin { path: image::copy::PATH, main: image::copy::main },
    ];
    BUILTINS
}
