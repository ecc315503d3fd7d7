//! The official Python SDK in an environment of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use crate::{
    Machine,
    install::{lock, must},
    repository, target_directory,
};

/// A Python that has the pinned `modal` package: made once, shared by all tests.
///
/// # Panics
/// Where `python3` has no `venv` module (Debian: `apt-get install python3-venv`) or PyPI can't be reached.
pub fn interpreter() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| install("sdk-python", "fixtures/sdk/python-requirements.txt"))
}

/// A Python that has the pinned `langfuse` package, likewise.
///
/// # Panics
/// As [`interpreter`].
pub fn langfuse_interpreter() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| install("sdk-langfuse", "fixtures/langfuse-sdk/requirements.txt"))
}

fn install(name: &str, requirements: &str) -> PathBuf {
    let requirements = repository().join(requirements);
    let directory = target_directory().join(name);
    let python = directory.join("bin/python");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let stamp = directory.join("installed-requirements.txt");
    let _guard = lock(&target_directory().join(format!("{name}.lock")));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&directory);
    must(&mut venv, "python3 needs its venv module: apt-get install python3-venv");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements);
    must(&mut pip, "the pinned SDK must come from PyPI");
    fs::write(stamp, wanted).unwrap();
    python
}

/// Runs a flow of `fixtures/flows` with the SDK against this machine's local server.
pub fn run_flow(machine: &Machine, flow: &str, args: &[&str]) -> Output {
    let server = machine.start_local();
    let mut command = machine.command(interpreter());
    command.envs(server).arg(repository().join("fixtures/flows").join(flow)).args(args);
    command.env("WORK", machine.path());
    command.output().unwrap()
}

/// Runs Modal's command line against this machine's local server; it must succeed.
///
/// # Panics
/// Where it fails.
pub fn modal(machine: &Machine, args: &[&str]) {
    let server = machine.start_local();
    let mut command = machine.command(interpreter());
    let output = command.envs(server).args(["-m", "modal"]).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "modal {args:?}: {}\n{stderr}", output.status);
}
