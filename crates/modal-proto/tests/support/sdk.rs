//! The official Python SDK in `target/sdk-python`, made once and shared with the end-to-end tests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The descriptors that the SDK carries, as an encoded `FileDescriptorSet`.
pub(crate) fn descriptors() -> Vec<u8> {
    let mut dump = Command::new(interpreter());
    dump.arg(repository().join("fixtures/sdk/dump_descriptors.py"));
    run(dump, "the SDK's descriptors cannot be printed")
}

/// A Python that has the pinned `modal` package.
///
/// The `it` package (`tests/src/python.rs`) uses the same directory, lock and stamp.
pub(crate) fn interpreter() -> PathBuf {
    let requirements = repository().join("fixtures/sdk/python-requirements.txt");
    let directory = target().join("sdk-python");
    let python = directory.join("bin/python");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let stamp = directory.join("installed-requirements.txt");
    let lock = fs::File::create(target().join("sdk-python.lock")).unwrap();
    lock.lock().unwrap();
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&directory);
    run(venv, "python3 with its venv module is needed: apt-get install python3-venv");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements);
    run(pip, "the pinned SDK must be installed from PyPI");
    fs::write(stamp, wanted).unwrap();
    python
}

fn run(mut command: Command, why: &str) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{why}: {error}"));
    assert!(output.status.success(), "{why}:\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Cargo's target directory: this test is target/<profile>/deps/descriptors-<hash>.
fn target() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}
