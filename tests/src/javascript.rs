//! The official JavaScript SDK in a directory of its own.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

use crate::{
    Machine,
    install::{lock, must},
    repository, target_directory,
};

/// A directory whose `node_modules` has the pinned `modal` package: made once, shared by all tests.
///
/// # Panics
/// Where `npm` is not installed (Debian: `apt-get install nodejs npm`) or its registry can't be reached.
fn directory() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(install).clone()
}

fn install() -> PathBuf {
    let sdk = repository().join("fixtures/sdk");
    let directory = target_directory().join("sdk-javascript");
    let wanted = fs::read_to_string(sdk.join("package-lock.json")).unwrap();
    let stamp = directory.join("installed-lock.json");
    let _guard = lock(&target_directory().join("sdk-javascript.lock"));
    fs::create_dir_all(&directory).unwrap();
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return directory;
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(sdk.join(file), directory.join(file)).unwrap();
    }
    let mut npm = Command::new("npm");
    // The packages' install scripts only compile optional accelerations.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    must(
        npm.current_dir(&directory),
        "npm must be there, and its registry: apt-get install nodejs npm",
    );
    fs::write(stamp, wanted).unwrap();
    directory
}

/// Runs a flow of `fixtures/flows` with the SDK against this machine's local server.
///
/// Modules are looked for beside the file that imports them, so the flow is copied beside them.
pub fn run_flow(machine: &Machine, flow: &str, args: &[&str]) -> Output {
    let copy = directory().join(format!("{}-{flow}", std::process::id()));
    fs::copy(repository().join("fixtures/flows").join(flow), &copy).unwrap();
    let server = machine.start_local();
    let mut command = machine.command("node");
    command.envs(server).arg(&copy).args(args);
    let output = command.output().unwrap();
    fs::remove_file(copy).unwrap();
    output
}
