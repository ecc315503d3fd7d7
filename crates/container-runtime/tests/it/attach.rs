//! File systems mounted in a container while it runs.

use std::fs;
use std::path::{Path, PathBuf};

use container_runtime::AttachSpec;

use super::support::{Bench, sh, spec};

/// A layer with one file, and an empty directory for changes.
fn image(state: &Path) -> (PathBuf, PathBuf) {
    let (layer, changes) = (state.join("layer"), state.join("changes"));
    fs::create_dir_all(layer.join("sub")).unwrap();
    fs::write(layer.join("sub/file"), "from the layer").unwrap();
    for part in ["upper", "work"] {
        fs::create_dir_all(changes.join(part)).unwrap();
    }
    (layer, changes)
}

#[tokio::test]
async fn a_mounted_image_is_seen_and_changed_and_taken_away() {
    let bench = Bench::new().await;
    let (layer, changes) = image(bench.state.path());
    let container = bench.container().await;
    let target = PathBuf::from("/made/image");
    let spec = AttachSpec {
        layers: vec![layer.clone()],
        changes: changes.clone(),
        target: target.clone(),
    };
    container.attach(&spec).await.unwrap();
    let script = "cat /made/image/sub/file; stat -c ' %U' /made/image/sub/file; \
                  echo new > /made/image/new; rm /made/image/sub/file; ls -A /dev | grep -c attach";
    assert_eq!(sh(&container, script).await.stdout, "from the layer root\n0\n");
    assert_eq!(fs::read_to_string(changes.join("upper/new")).unwrap(), "new\n");
    assert!(layer.join("sub/file").exists(), "a layer is never written to");
    // A program that swaps the path for a link does not choose what is unmounted.
    sh(&container, "mv /made /moved && ln -s /proc /made").await.ok();
    container.detach(&target).await.unwrap();
    assert_eq!(
        sh(&container, "ls /moved/image | wc -l; ls /proc/self/status").await.stdout,
        "0\n/proc/self/status\n"
    );
    assert!(container.detach(&target).await.is_err(), "nothing is mounted any more");
    container.terminate().await.unwrap();
    bench.finish().await;
}

#[tokio::test]
async fn a_file_is_no_place_for_a_mount() {
    let bench = Bench::new().await;
    let (layer, changes) = image(bench.state.path());
    let container = bench.runtime.create(spec("other")).await.unwrap();
    let spec = AttachSpec { layers: vec![layer], changes, target: "/etc/hostname/x".into() };
    sh(&container, "echo > /etc/hostname").await.ok();
    assert!(container.attach(&spec).await.is_err());
    assert_eq!(sh(&container, "echo alive").await.stdout, "alive\n");
    container.terminate().await.unwrap();
    bench.finish().await;
}
