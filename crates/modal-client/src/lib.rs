//! Client for Modal's control plane: apps, images, volumes, secrets and sandboxes, over gRPC.
//!
//! Start with [`Client::connect`]; everything else is made from a client:
//!
//! ```no_run
//! use modal_client::{Client, Config, Environ, Image};
//!
//! #[tokio::main]
//! async fn main() -> modal_client::Result<()> {
//!     // `MODAL_…` variables first, then the active profile of `~/.modal.toml`.
//!     let client = Client::connect(Config::from_env_and_file(&Environ::of_process())?).await?;
//!     let app = client.app("demo").create_if_missing().await?;
//!     let image = Image::debian_slim().apt_install(["git"]);
//!     let image = client.build(&image, &app).on_log(|text| eprint!("{text}")).await?;
//!     let sandbox = client.sandbox(&app, &image).command(["sleep", "60"]).await?;
//!     let output = sandbox.exec(["git", "--version"]).output().await?;
//!     println!("{} (exit code {})", output.stdout_text().trim(), output.code);
//!     sandbox.terminate().await
//! }
//! ```
//!
//! - A builder is sent when it is awaited; until then nothing is asked, read or changed.
//! - Calls are repeated while the error is transient and there is budget left, with one idempotency key
//!   for all attempts; streams are resumed where they broke. See [`Error`] for what remains.
//! - Dropping a handle ends nothing: a sandbox runs until it is terminated or its time is over, unless it was
//!   created with [`terminate_on_drop`](SandboxCreate::terminate_on_drop).
//! - The library reads no environment variable and no file by itself but those it is told to.
//! - Offline, point the same client at `modal-local`; no test needs an account.
//!
//! What it sends is what Modal's Python client 1.6.4 sends: `tests/wire.rs` compares every request.

mod apps;
mod auth;
mod blob;
mod cbor;
mod client;
mod clock;
pub mod config;
mod containers;
mod dicts;
mod environments;
mod error;
mod follow;
mod functions;
mod gpu;
mod heartbeat;
mod http;
pub mod ids;
mod ignore_rules;
mod image;
mod local;
mod login;
mod logs;
mod mount;
mod page;
mod pickle;
mod queues;
mod raw;
mod retry;
mod router;
mod rpc;
mod sandbox;
mod secrets;
mod transport;
mod volume;

/// The messages and services of Modal's API, for [`Client::raw`].
pub use modal_proto as proto;

pub use secret_string::SecretString;

pub use crate::{
    apps::{App, AppInfo, AppLookup, AppState, AppVersion, Apps},
    cbor::Arguments,
    client::{Client, ClientBuilder},
    config::{Config, Environ},
    containers::{ContainerInfo, Containers},
    dicts::{Dict, DictInfo, DictLookup, Dicts, EphemeralDict},
    environments::{Environment, EnvironmentInfo, Environments},
    error::{BoxError, Code, Error, Operation, Result, ServerStatus},
    functions::{
        Autoscaling, Commit, Deploy, DeployStrategy, Deployment, Function, FunctionCall,
        FunctionMap, FunctionSpec, FunctionStats, Retries, Schedule, Web,
    },
    gpu::{Gpu, InvalidGpu},
    ids::{
        AppId, DictId, EnvironmentId, FunctionCallId, FunctionId, ImageId, MountId, QueueId,
        SandboxId, SecretId, TaskId, VolumeId,
    },
    ignore_rules::{IgnoreRules, InvalidRule},
    image::{BuildEvent, BuiltImage, Image, ImageBuild, PipOptions},
    login::{NewToken, TokenFlow, TokenInfo},
    logs::{LogEntry, LogSource, Logs},
    mount::{Mount, MountUpload},
    queues::{EphemeralQueue, Queue, QueueInfo, QueueLookup, Queues},
    raw::AuthenticatedService,
    router::{OutputLines, OutputStream, StdinWriter},
    sandbox::{
        ConnectToken, Exec, ExitReason, FileKind, FileProblem, ListSandboxes, MiB, NetworkAccess,
        Output, Port, Probe, Process, Pty, Redirect, Sandbox, SandboxCreate, SandboxExit,
        SandboxFile, SandboxFiles, SandboxInfo, SandboxVersion, Sandboxes, Tunnel, VolumeMount,
    },
    secrets::{IfExists, Secret, SecretInfo, Secrets},
    transport::GrpcService,
    volume::{
        Download, DownloadSummary, EntryKind, EphemeralVolume, EphemeralVolumeCreate, ListFiles,
        Progress, ReadFile, RemoveFile, Upload, UploadSummary, Volume, VolumeEntry, VolumeFile,
        VolumeInfo, VolumeLookup, VolumeVersion, Volumes,
    },
};
