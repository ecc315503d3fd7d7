//! The packages of a version set, installed once into the target directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The interpreter of a set. The first call installs its packages from PyPI, which takes a minute or two and half
/// a gigabyte; others wait for it.
pub(crate) fn python(set: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let requirements = package.join(format!("requirements/{set}.txt"));
    let wanted = fs::read_to_string(&requirements).unwrap();
    let root = target().join("litellm");
    fs::create_dir_all(&root).unwrap();
    let directory = root.join(set);
    let python = directory.join("bin/python");
    let lock = File::create(root.join(format!("{set}.lock"))).unwrap();
    lock.lock().unwrap();
    let done = directory.join("installed");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    // A set that was half installed, or another one, is not to be trusted.
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    must(Command::new("python3").args(["-m", "venv"]).arg(&directory), "python3-venv is needed");
    must(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--requirement"])
            .arg(&requirements),
        "the packages must come from PyPI",
    );
    fs::write(&done, wanted).unwrap();
    python
}

/// Cargo's target directory: the test binary lies in `<target>/<profile>/deps`.
fn target() -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    binary.ancestors().nth(3).unwrap().to_owned()
}

fn must(command: &mut Command, why: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{why}: {error}"));
    assert!(output.status.success(), "{why}: {}", String::from_utf8_lossy(&output.stderr));
}
