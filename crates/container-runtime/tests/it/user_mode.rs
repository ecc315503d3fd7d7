//! The same tests once more as an ordinary user.
//!
//! Run as root, this starts the test binary again as `nobody`; run as an ordinary user, all other tests have been
//! that already.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::support::{NOBODY, PLACE, base_layer, config, spawner};
use container_runtime::{Mode, Runtime};

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// What [`the_suite_holds_for_an_ordinary_user`] starts first.
#[tokio::test]
async fn the_mode_fits_the_user() {
    let state = tempfile::tempdir().unwrap();
    let runtime = Runtime::start(config(state.path())).await.unwrap();
    let expected = if is_root() { Mode::Full } else { Mode::UserNs };
    assert_eq!(runtime.capabilities().mode, expected, "{}", runtime.capabilities());
    runtime.shutdown().await.unwrap();
}

#[test]
fn the_suite_holds_for_an_ordinary_user() {
    if !is_root() {
        return;
    }
    let place = nobodys_place();
    let program = place.path().join("it");
    let output = Command::new(program)
        .env(PLACE, place.path())
        .args([
            "the_mode_fits_the_user",
            "lifecycle::",
            "escape::",
            "limits::",
            "killing_the_spawner",
        ])
        .arg("--test-threads=2")
        .uid(NOBODY)
        .gid(NOBODY)
        .env("HOME", "/nonexistent")
        .current_dir("/")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!shown.contains(" 0 passed"), "{shown}");
}

/// The programs of these tests and the layers, where every user may go.
fn nobodys_place() -> tempfile::TempDir {
    let open: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let place = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), place.path().join("it")).unwrap();
    std::fs::copy(spawner(), place.path().join("container-spawner")).unwrap();
    let layer = place.path().join("host-root-2");
    // Hard links are enough on one file system.
    let copied = ["-al", "-a"].iter().any(|how| {
        let mut copy = Command::new("cp");
        copy.arg(how).arg(base_layer()).arg(&layer).stderr(std::process::Stdio::null());
        copy.status().unwrap().success()
    });
    assert!(copied, "can't copy the layer to {}", layer.display());
    for name in ["", "etc", "home", "mnt", "opt", "root", "srv", "tmp", "var", "var/tmp"] {
        let directory = place.path().join("nobodys-layer").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    place
}
