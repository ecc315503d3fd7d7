//! The control plane as clients see it: a real server on a free port, raw generated stubs, plain HTTP.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "control/harness.rs"]
mod harness;

#[path = "control/apps.rs"]
mod apps;
#[path = "control/auth.rs"]
mod auth;
#[path = "control/blobs.rs"]
mod blobs;
#[path = "control/daemon.rs"]
mod daemon;
#[path = "control/dicts.rs"]
mod dicts;
#[path = "control/disk.rs"]
mod disk;
#[path = "control/environments.rs"]
mod environments;
#[path = "control/local.rs"]
mod local;
#[path = "control/login.rs"]
mod login;
#[path = "control/mounts.rs"]
mod mounts;
#[path = "control/queues.rs"]
mod queues;
#[path = "control/repeats.rs"]
mod repeats;
#[path = "control/secrets.rs"]
mod secrets;
#[path = "control/volumes.rs"]
mod volumes;
