//! Systems other than Linux: the types exist, no value of them does.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::attach::AttachSpec;
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::spec::{
    Builtin, ContainerId, ContainerSpec, Ended, ExecSpec, ExitStatus, PtySize, RuntimeConfig, Usage,
};

/// Returns at once: there is no spawner on this system.
pub fn run_if_spawner(_builtins: &'static [Builtin]) {}

/// Containers; never made on this system.
#[derive(Debug, Clone)]
pub struct Runtime(Infallible);

impl Runtime {
    /// Always [`Error::Unsupported`].
    pub async fn start(_config: RuntimeConfig) -> Result<Self> {
        Err(unsupported())
    }
    /// What the probe found.
    pub fn capabilities(&self) -> &Capabilities {
        match self.0 {}
    }
    /// Whether it can make containers.
    pub fn is_running(&self) -> bool {
        match self.0 {}
    }
    /// Bytes of memory that all containers together can have.
    pub fn memory(&self) -> Option<u64> {
        match self.0 {}
    }
    /// A directory that is deleted with the instance.
    pub fn instance_dir(&self) -> &Path {
        match self.0 {}
    }
    /// Makes a container.
    pub async fn create(&self, _spec: ContainerSpec) -> Result<Container> {
        match self.0 {}
    }
    /// Ends everything.
    pub async fn shutdown(self) -> Result<()> {
        match self.0 {}
    }
}

/// A container; never made on this system.
#[derive(Debug, Clone)]
pub struct Container(Infallible);

impl Container {
    /// Its name.
    pub fn id(&self) -> &ContainerId {
        match self.0 {}
    }
    /// Starts a program.
    pub async fn exec(&self, _spec: ExecSpec) -> Result<Process> {
        match self.0 {}
    }
    /// Ends it.
    pub async fn terminate(&self) -> Result<()> {
        match self.0 {}
    }
    /// Waits for its end.
    pub async fn ended(&self) -> Ended {
        match self.0 {}
    }
    /// A TCP socket of its network.
    pub async fn tcp_socket(&self, _v6: bool) -> Result<OwnedFd> {
        match self.0 {}
    }
    /// A UDP socket of its network.
    pub async fn udp_socket(&self) -> Result<OwnedFd> {
        match self.0 {}
    }
    /// Mounts an overlay in it.
    pub async fn attach(&self, _spec: &AttachSpec) -> Result<()> {
        match self.0 {}
    }
    /// Takes such a mount away.
    pub async fn detach(&self, _target: &Path) -> Result<()> {
        match self.0 {}
    }
    /// Its TUN device.
    pub fn take_tun(&self) -> Option<OwnedFd> {
        match self.0 {}
    }
    /// Whether the kernel killed one of its programs for lack of memory.
    pub fn oom_killed(&self) -> bool {
        match self.0 {}
    }
    /// What it has used.
    pub fn usage(&self) -> Usage {
        match self.0 {}
    }
    /// The limits in force, for people.
    pub fn limits_line(&self) -> String {
        match self.0 {}
    }
}

/// A program in a container; never made on this system.
#[derive(Debug)]
pub struct Process(Infallible);

impl Process {
    /// The writing end of its input.
    pub fn take_stdin(&mut self) -> Option<Input> {
        match self.0 {}
    }
    /// The reading end of its output.
    pub fn take_stdout(&mut self) -> Option<Output> {
        match self.0 {}
    }
    /// The reading end of its errors.
    pub fn take_stderr(&mut self) -> Option<Output> {
        match self.0 {}
    }
    /// Waits for its end.
    pub async fn wait(&self) -> Result<ExitStatus> {
        match self.0 {}
    }
    /// Its end, if it has ended.
    pub fn poll(&self) -> Option<ExitStatus> {
        match self.0 {}
    }
    /// Signals it.
    pub async fn kill(&self, _signal: i32) -> Result<()> {
        match self.0 {}
    }
    /// Changes its terminal's size.
    pub fn resize(&self, _size: PtySize) -> Result<()> {
        match self.0 {}
    }
}

/// A program's input.
#[derive(Debug)]
pub struct Input(Infallible);

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.0 {}
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.0 {}
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.0 {}
    }
}

/// A program's output.
#[derive(Debug)]
pub struct Output(Infallible);

impl AsyncRead for Output {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.0 {}
    }
}

fn unsupported() -> Error {
    Error::Unsupported {
        reason: "containers need Linux namespaces".to_owned(),
        hint: "use the target `modal`, or a Linux machine or virtual machine".to_owned(),
    }
}

/// A base layer made of this machine's own programs; there is none on this system.
pub mod host_root {
    use std::path::Path;

    use crate::error::Result;

    /// Always [`crate::Error::Unsupported`].
    pub fn layer(_target: &Path) -> Result<()> {
        Err(super::unsupported())
    }
}
