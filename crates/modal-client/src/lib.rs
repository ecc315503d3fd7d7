//! Client for Modal's control plane: apps, images, volumes, secrets and sandboxes, over gRPC.

mod apps;
mod auth;
mod blob;
mod client;
mod clock;
pub mod config;
mod environments;
mod error;
mod http;
pub mod ids;
mod image;
mod local;
mod mount;
mod page;
mod retry;
mod router;
mod rpc;
mod sandbox;
mod secret_string;
mod secrets;
mod transport;
mod volume;

pub use crate::{
    apps::{App, AppInfo, AppLookup, AppState, Apps},
    client::Client,
    config::{Config, Environ},
    environments::{Environment, EnvironmentInfo, Environments},
    error::{Code, Error, Operation, Result, ServerStatus},
    ids::{AppId, EnvironmentId, ImageId, MountId, SandboxId, SecretId, TaskId, VolumeId},
    image::{BuildEvent, BuiltImage, Image, ImageBuild, PipOptions},
    mount::{Mount, MountUpload},
    router::{OutputStream, StdinWriter},
    sandbox::{
        Exec, ExitReason, FileKind, FileProblem, ListSandboxes, MiB, NetworkAccess, Output, Port,
        Process, Pty, Redirect, Sandbox, SandboxCreate, SandboxExit, SandboxFile, SandboxFiles,
        SandboxInfo, Sandboxes, Tunnel, VolumeMount,
    },
    secret_string::SecretString,
    secrets::{IfExists, Secret, SecretInfo, Secrets},
    volume::{
        EntryKind, ListFiles, ReadFile, RemoveFile, Upload, UploadSummary, Volume, VolumeEntry,
        VolumeFile, VolumeInfo, VolumeLookup, VolumeVersion, Volumes,
    },
};
