//! Harness of the end-to-end tests: the real binaries on a machine of their own.
//!
//! A [`Machine`] is an empty home and state directory and an environment without this shell's
//! variables; [`Machine::xtask`] runs the real `xtask` there. Whatever a test started on it is
//! stopped when it is dropped.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that meets an error has failed, and says why"
)]

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

mod install;
pub mod javascript;
pub mod python;
pub mod seed;

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The `xtask` binary, built from the sources of this checkout.
pub fn xtask_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        build(&["--package", "xtask"]);
        target_directory().join("debug/xtask")
    })
}

/// An example of `modal-client`, built from the sources of this checkout.
pub fn example_binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build(&["--workspace", "--examples"]));
    target_directory().join("debug/examples").join(name)
}

/// Where cargo puts what it builds for this test run.
pub fn target_directory() -> PathBuf {
    // The test binary is target/<profile>/deps/it-<hash>.
    let exe = env::current_exe().unwrap();
    exe.ancestors().nth(3).unwrap().to_owned()
}

fn build(args: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(repository()).args(["build", "--quiet"]).args(args);
    cargo.arg("--target-dir").arg(target_directory());
    assert!(cargo.status().unwrap().success(), "cargo build {args:?} failed");
}

/// An empty home and state directory, and an environment of its own.
pub struct Machine {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine that starts with the image layers which earlier ones made: see [`seed`].
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("goat-it-").tempdir().unwrap();
        fs::create_dir(directory.path().join("home")).unwrap();
        let machine = Self { directory, variables: Vec::new() };
        seed::plant(&machine.state());
        machine
    }

    /// Sets a variable for every later command.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The machine's own directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `GOAT_STATE_DIR` of the machine.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// A command on this machine: empty home, no variable of this shell but what tools need to run.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(repository()).stdin(Stdio::null());
        command.envs(env::vars().filter(|(name, _)| is_kept(name)));
        command.env("HOME", self.path().join("home")).env("GOAT_STATE_DIR", self.state());
        command.env("LANG", "C.UTF-8").env("TERM", "dumb");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `xtask` with these arguments, not yet started.
    pub fn xtask(&self, args: &[&str]) -> Command {
        let mut command = self.command(xtask_binary());
        command.args(args);
        command
    }

    /// Runs `xtask` to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.xtask(args).output().unwrap()
    }

    /// Runs `xtask`, which must succeed, and gives its standard output.
    pub fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "xtask {args:?}: {}\n{stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the local server and gives the variables that point an SDK at it.
    pub fn start_local(&self) -> Vec<(String, String)> {
        self.succeed(&["--target", "local", "local", "env"])
            .lines()
            .filter_map(|line| line.strip_prefix("export "))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.state().join("server.json").exists() {
            let output = self.run(&["local", "stop"]);
            if !output.status.success() {
                eprintln!("local stop: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        seed::keep(&self.state());
    }
}

/// Variables by which this machine's package clients reach their registries, and what runs programs.
fn is_kept(name: &str) -> bool {
    const NAMES: [&str; 6] =
        ["PATH", "CARGO_HOME", "RUSTUP_HOME", "USER", "TMPDIR", "LD_LIBRARY_PATH"];
    const PREFIXES: [&str; 8] = [
        "PIP_",
        "NPM_",
        "npm_config_",
        "SSL_CERT",
        "REQUESTS_CA",
        "CURL_CA",
        "NODE_EXTRA_CA",
        "UV_",
    ];
    let proxy = name.to_ascii_lowercase();
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || ["http_proxy", "https_proxy", "no_proxy"].contains(&proxy.as_str())
}
