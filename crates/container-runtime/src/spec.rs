//! What a caller asks for: the container, the program in it, the runtime around both.
//!
//! Pure data, valid on every system. Checks that need no machine live in [`ContainerSpec::check`].

use std::ffi::OsString;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

/// A container's name: 1 to 64 letters, digits, `-`, `_`. It becomes part of a control group's name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(Error::InvalidSpec {
                field: "container id",
                reason: format!("`{text:.80}` is not 1 to 64 of letters, digits, `-` and `_`"),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContainerId({})", self.0)
    }
}

/// How a runtime is started.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where instances keep locks and scratch directories. Made 0700 if missing; must not lie inside a layer.
    pub state_dir: PathBuf,
    /// The program that becomes the spawner; by default this very binary, whose `main` must then
    /// begin with [`crate::run_if_spawner`].
    pub spawner: Option<PathBuf>,
    /// How many containers may be in the making at once; more wait in line. Default: twice the cores.
    pub max_parallel_creates: usize,
}

impl RuntimeConfig {
    /// The defaults over `state_dir`.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { state_dir: state_dir.into(), spawner: None, max_parallel_creates: 2 * cores }
    }
}

/// A container: its root, what is bound into it, what it may use.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Unique among the runtime's live containers.
    pub id: ContainerId,
    /// What `hostname` says inside.
    pub hostname: String,
    /// Its file system.
    pub root: RootSpec,
    /// Directories and files of this machine shown inside.
    pub mounts: Vec<Mount>,
    /// Files written into the root before the first program starts (`/etc/hosts`, `/etc/resolv.conf`).
    pub files: Vec<GeneratedFile>,
    /// Hard limits.
    pub limits: Limits,
    /// What it can reach.
    pub network: NetworkSpec,
    /// An image build: the upper directory will be kept as a layer. It is written durably (no
    /// overlay `volatile`), and [`crate::Container::terminate`] ends the programs, writes all
    /// back and only then kills init. Isolation is the same as for any container.
    pub trusted_build: bool,
}

impl ContainerSpec {
    /// A container of `root` with no mounts, no network and the default limits.
    #[must_use]
    pub fn new(id: ContainerId, root: RootSpec) -> Self {
        Self {
            hostname: id.to_string(),
            id,
            root,
            mounts: Vec::new(),
            files: Vec::new(),
            limits: Limits::default(),
            network: NetworkSpec::None,
            trusted_build: false,
        }
    }

    /// Refuses what can never work, before anything is made.
    pub fn check(&self) -> Result<()> {
        if self.hostname.is_empty() || self.hostname.len() > 64 || self.hostname.contains('\0') {
            return Err(invalid("hostname", format!("`{:.80}`: 1 to 64 bytes", self.hostname)));
        }
        if self.root.layers.is_empty() || self.root.layers.len() > 400 {
            let count = self.root.layers.len();
            return Err(invalid("layers", format!("{count} layers; 1 to 400 are possible")));
        }
        for layer in &self.root.layers {
            host_path("layer", layer)?;
        }
        if let Upper::Dir { upper, work } = &self.root.upper {
            host_path("upper directory", upper)?;
            host_path("work directory", work)?;
        }
        for mount in &self.mounts {
            host_path("mount source", &mount.source)?;
            path_below("mount sub-path", &mount.sub_path)?;
            inside_path("mount target", &mount.target)?;
        }
        for file in &self.files {
            inside_path("generated file", &file.path)?;
        }
        Ok(())
    }
}

fn invalid(field: &'static str, reason: String) -> Error {
    Error::InvalidSpec { field, reason }
}

fn host_path(field: &'static str, path: &Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(invalid(field, format!("`{}` is not an absolute path", path.display())))
}

/// Empty, or plain names alone.
fn path_below(field: &'static str, path: &Path) -> Result<()> {
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    Err(invalid(field, format!("`{}` is not relative and plain", path.display())))
}

/// Absolute, without `..`, and not over what the runtime itself mounts.
fn inside_path(field: &'static str, path: &Path) -> Result<()> {
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir)
        || !parts.clone().all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(invalid(field, format!("`{}` is not absolute and plain", path.display())));
    }
    match parts.next() {
        None => Err(invalid(field, "`/` is the container's root".to_owned())),
        Some(Component::Normal(first)) if first == "proc" || first == "dev" || first == "sys" => {
            let shown = path.display();
            Err(invalid(field, format!("`{shown}` lies in a directory the runtime makes")))
        }
        Some(_) => Ok(()),
    }
}

/// The file system: read-only layers and one place for changes.
#[derive(Debug, Clone)]
pub struct RootSpec {
    /// Directories on this machine, lowest first. Ids on disk are those seen inside (0 to 65535).
    pub layers: Vec<PathBuf>,
    /// Where changes go.
    pub upper: Upper,
}

/// Where a container's changes go.
#[derive(Debug, Clone)]
pub enum Upper {
    /// Memory, gone with the container. It counts against the memory limit, so keep it below that.
    Tmpfs {
        /// At most this many bytes.
        bytes: u64,
        /// At most this many files.
        inodes: u64,
    },
    /// A directory on disk that the caller owns; afterwards it is a layer, with ids as seen inside.
    Dir {
        /// An empty directory, or one of an earlier container.
        upper: PathBuf,
        /// An empty directory on the same file system, for overlayfs itself.
        work: PathBuf,
    },
}

/// A directory or file of this machine shown inside, `nosuid,nodev`, owned by root inside where it is by uid 0 on disk.
#[derive(Debug, Clone)]
pub struct Mount {
    /// On this machine.
    pub source: PathBuf,
    /// A directory below `source` to show instead of it, if not empty. Unlike `source` it may be writable to containers:
    /// no link in it is followed.
    pub sub_path: PathBuf,
    /// Inside; made if missing.
    pub target: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
}

impl Mount {
    /// All of `source`, to be written to.
    pub fn new(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            sub_path: PathBuf::new(),
            target: target.into(),
            read_only: false,
        }
    }
}

/// A file that is not in any layer.
#[derive(Clone)]
pub struct GeneratedFile {
    /// Inside.
    pub path: PathBuf,
    /// All of it.
    pub contents: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

impl fmt::Debug for GeneratedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, contents, mode } = self;
        write!(f, "GeneratedFile({}, {} bytes, {mode:o})", path.display(), contents.len())
    }
}

/// Hard limits; a request (a soft limit) is not the runtime's business.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of memory; above it the kernel kills a program of the container.
    pub memory: Option<u64>,
    /// Cores, 0.5 being half of one.
    pub cpu: Option<f64>,
    /// Processes and threads together.
    pub pids: Option<u64>,
    /// Bytes of one file; a program that writes more gets `SIGXFSZ`. A limit of each process.
    pub file_size: Option<u64>,
}

impl Default for Limits {
    /// No limit on memory, CPU and files; 4,096 processes, so that a fork bomb stays in its box.
    fn default() -> Self {
        Self { memory: None, cpu: None, pids: Some(4096), file_size: None }
    }
}

/// What a container reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkSpec {
    /// Its own loopback and nothing else.
    None,
    /// A TUN device `eth0` made inside, 10.0.2.100/24, gateway 10.0.2.2; take its descriptor with
    /// [`crate::Container::take_tun`] and serve it.
    Tun,
}

/// A program to start in a container.
#[derive(Clone)]
pub struct ExecSpec {
    /// Program and arguments; the program is looked up in `PATH` of `env` unless it has a `/`.
    pub argv: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory inside.
    pub cwd: PathBuf,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// A terminal instead of the three: input goes to it, output and errors come merged from it.
    pub pty: Option<PtySize>,
    /// Whether that terminal echoes its input.
    pub pty_echo: bool,
    /// User inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
}

impl ExecSpec {
    /// `argv` as root in `/`, nothing on stdin, both outputs piped, an empty environment.
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            stdin: Stdio::Null,
            stdout: Stdio::Pipe,
            stderr: Stdio::Pipe,
            pty: None,
            pty_echo: false,
            uid: 0,
            gid: 0,
        }
    }

    /// Adds one variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Refuses what `execve` cannot carry.
    pub fn check(&self) -> Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        if self.argv.first().is_none_or(|program| program.is_empty()) {
            return Err(invalid("command", "it is empty".to_owned()));
        }
        let has_nul = |text: &OsString| text.as_bytes().contains(&0);
        if self.argv.iter().any(has_nul) {
            return Err(invalid("command", "an argument contains a NUL byte".to_owned()));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.as_bytes().contains(&b'=') || has_nul(name) {
                let shown = name.to_string_lossy();
                return Err(invalid("environment", format!("`{shown:.80}` is no variable name")));
            }
            if has_nul(value) {
                let shown = name.to_string_lossy();
                return Err(invalid("environment", format!("`{shown:.80}` contains a NUL byte")));
            }
        }
        if !self.cwd.is_absolute() {
            let shown = self.cwd.display();
            return Err(invalid("working directory", format!("`{shown}` is not absolute")));
        }
        Ok(())
    }
}

impl fmt::Debug for ExecSpec {
    /// Without values of the environment and without arguments: both may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSpec")
            .field("program", &self.argv.first())
            .field("arguments", &self.argv.len().saturating_sub(1))
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("pty", &self.pty)
            .finish_non_exhaustive()
    }
}

/// What a standard descriptor is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// `/dev/null`.
    Null,
    /// A pipe to the caller.
    Pipe,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PtySize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// Code or signal.
    pub how: Exit,
    /// It was killed while the kernel was reclaiming memory of its container.
    pub oom: bool,
}

/// Code or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this.
    Code(i32),
    /// It was killed by this.
    Signal(i32),
}

impl ExitStatus {
    /// The code a shell shows: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_code(&self) -> i32 {
        match self.how {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Why a container's init is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to end, or its last handle was dropped.
    Terminated,
    /// The kernel killed init for lack of memory.
    OutOfMemory,
    /// Init ended by itself or by a stranger: a fault of the machine, never of the program.
    Failed(String),
    /// The runtime stopped.
    RuntimeGone,
}

/// What a container has used so far. `None` where the limits back end does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Option<std::time::Duration>,
    /// Bytes now.
    pub memory: Option<u64>,
    /// Most bytes so far.
    pub memory_peak: Option<u64>,
    /// Processes now.
    pub pids: Option<u64>,
}

/// A program that exists in every container without a file: `exec` of `path` runs `main` in a
/// forked child inside, under the same isolation as any program.
///
/// `main` starts single-threaded with the exec's environment, working directory and standard
/// descriptors, and returns the exit code.
#[derive(Clone, Copy)]
pub struct Builtin {
    /// The absolute path that names it.
    pub path: &'static str,
    /// Its body; `args[0]` is the path.
    pub main: fn(args: Vec<OsString>) -> i32,
}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Builtin({})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        let root = RootSpec {
            layers: vec!["/layer".into()],
            upper: Upper::Tmpfs { bytes: 1 << 20, inodes: 100 },
        };
        ContainerSpec::new("box".parse().unwrap(), root)
    }

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        for bad in ["", "..", "a/b", "a\0", "%2e", "a b", &"x".repeat(65)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
        }
        assert!("sb-Ab_9".parse::<ContainerId>().is_ok());
    }

    #[test]
    fn targets_over_the_runtimes_own_mounts_are_refused() {
        for bad in ["/", "/proc/x", "/dev", "/sys/fs", "relative", "/a/../b"] {
            let mut spec = spec();
            spec.mounts.push(Mount::new("/", bad));
            assert!(spec.check().is_err(), "{bad}");
        }
        assert!(spec().check().is_ok());
    }

    #[test]
    fn sub_paths_are_plain_names() {
        let check = |sub_path: &str| {
            let mut spec = spec();
            spec.mounts.push(Mount { sub_path: sub_path.into(), ..Mount::new("/", "/m") });
            spec.check()
        };
        for bad in ["/", "/etc", "..", "a/../b", "./a"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("").is_ok() && check("a/b").is_ok());
    }

    #[test]
    fn debug_shows_no_secret() {
        let exec = ExecSpec::new(["tool", "--key=hidden1"]).env("KEY", "hidden2");
        let shown = format!("{exec:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("tool") && shown.contains("KEY"));
    }

    #[test]
    fn commands_that_execve_cannot_carry_are_refused() {
        assert!(ExecSpec::new(Vec::<String>::new()).check().is_err());
        assert!(ExecSpec::new(["a\0b"]).check().is_err());
        assert!(ExecSpec::new(["a"]).env("A=B", "").check().is_err());
        assert!(ExecSpec::new(["a"]).env("A", "B\0").check().is_err());
        assert!(ExecSpec::new(["a"]).env("A", "").check().is_ok());
    }
}
