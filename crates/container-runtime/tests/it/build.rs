//! Image builds: upper directories on disk that become layers.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use crate::support::{Bench, base_layer, command, finish, sh, spec};
use container_runtime::{ContainerSpec, GeneratedFile, Mode, Upper};

/// A build over these layers; its upper directory.
fn build(bench: &Bench, name: &str, layers: Vec<PathBuf>) -> (ContainerSpec, PathBuf) {
    let place = bench.runtime.instance_dir().join(name);
    let (upper, work) = (place.join("upper"), place.join("work"));
    fs::create_dir_all(&upper).unwrap();
    fs::create_dir_all(&work).unwrap();
    let mut spec = spec(name);
    spec.root.layers = layers;
    spec.root.upper = Upper::Dir { upper: upper.clone(), work };
    spec.trusted_build = true;
    (spec, upper)
}

#[tokio::test]
async fn a_kept_upper_directory_is_a_layer_with_ids_as_seen_inside() {
    let bench = Bench::new().await;
    if bench.runtime.capabilities().mode != Mode::Full {
        return bench.finish().await;
    }
    let (spec, upper) = build(&bench, "first", vec![base_layer()]);
    let container = bench.runtime.create(spec).await.unwrap();
    let script = "set -e; useradd -m worker; su worker -c 'echo mine > ~/file'; \
                  chown 33:33 /etc/issue; rm /etc/profile; rm -r /etc/skel; mkdir /etc/skel; \
                  mv /usr/games /usr/toys 2>/dev/null || true; mkdir /data; echo v1 > /data/f";
    sh(&container, script).await.ok();
    container.terminate().await.unwrap();

    let ids = |path: &str| {
        let found = fs::symlink_metadata(upper.join(path)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(ids("data/f"), (0, 0));
    assert_eq!(ids("etc/issue"), (33, 33));
    assert_eq!(ids(""), (0, 0));
    let worker = ids("home/worker/file");
    assert!(worker.0 >= 1000 && worker.0 < 65_536, "{worker:?}");
    let whiteout = fs::symlink_metadata(upper.join("etc/profile")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);

    // The layer serves another container, whose ids are others outside.
    let mut next = crate::support::spec("second");
    next.root.layers = vec![base_layer(), upper];
    let container = bench.runtime.create(next).await.unwrap();
    let script = "cat /home/worker/file /data/f; stat -c %U /home/worker/file; ls /etc/profile; ls -A /etc/skel";
    let ran = sh(&container, script).await;
    assert_eq!(ran.stdout, "mine\nv1\nworker\n", "{ran:?}");
    assert!(ran.stderr.contains("/etc/profile"));
    bench.finish().await;
}

#[tokio::test]
async fn packages_install_as_root_inside() {
    let bench = Bench::new().await;
    let (spec, upper) = build(&bench, "deb", vec![base_layer()]);
    let container = bench.runtime.create(spec).await.unwrap();
    let script = "set -e; mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin; cd /tmp/p; \
        printf 'Package: goat-test\\nVersion: 1\\nArchitecture: all\\nMaintainer: t <t@example.org>\\nDescription: t\\n' > DEBIAN/control; \
        printf '#!/bin/sh\\nchown www-data /usr/bin/goat-test\\n' > DEBIAN/postinst; chmod 755 DEBIAN/postinst; \
        printf '#!/bin/sh\\necho installed\\n' > usr/bin/goat-test; chmod 755 usr/bin/goat-test; \
        dpkg-deb --build --root-owner-group /tmp/p /tmp/p.deb; dpkg -i /tmp/p.deb; goat-test; dpkg -s goat-test | grep Status";
    let ran = sh(&container, script).await;
    assert!(ran.ok().contains("installed\nStatus: install ok installed"), "{ran:?}");
    container.terminate().await.unwrap();
    if bench.runtime.capabilities().mode == Mode::Full {
        assert_eq!(fs::metadata(upper.join("usr/bin/goat-test")).unwrap().uid(), 33);
    }
    bench.finish().await;
}

#[tokio::test]
async fn generated_files_stay_out_of_the_layer() {
    let bench = Bench::new().await;
    let (mut spec, upper) = build(&bench, "quiet", vec![base_layer()]);
    let contents = b"nameserver 10.0.2.3\n".to_vec();
    spec.files = vec![GeneratedFile { path: "/etc/resolv.conf".into(), contents, mode: 0o644 }];
    let container = bench.runtime.create(spec).await.unwrap();
    assert_eq!(sh(&container, "cat /etc/resolv.conf").await.ok(), "nameserver 10.0.2.3");
    container.terminate().await.unwrap();
    let kept = fs::read(upper.join("etc/resolv.conf")).unwrap_or_default();
    assert_eq!(kept, b"", "only an empty place to mount on");
    bench.finish().await;
}

#[tokio::test]
async fn many_layers_with_long_paths_fit() {
    let bench = Bench::new().await;
    let place = bench.runtime.instance_dir().join("layers").join("l".repeat(200));
    let mut layers = vec![base_layer()];
    for number in 0..120 {
        let layer = place.join(format!("{number:0>60}"));
        fs::create_dir_all(layer.join("stack")).unwrap();
        fs::write(layer.join("stack").join(number.to_string()), "").unwrap();
        fs::write(layer.join("stack/top"), number.to_string()).unwrap();
        layers.push(layer);
    }
    let mut spec = spec("deep");
    spec.root.layers = layers;
    let container = bench.runtime.create(spec).await.unwrap();
    assert_eq!(sh(&container, "ls /stack | wc -l; cat /stack/top").await.ok(), "121\n119");
    bench.finish().await;
}

#[tokio::test]
async fn a_build_may_go_on_in_the_same_upper_directory() {
    let bench = Bench::new().await;
    let (first, upper) = build(&bench, "again", vec![base_layer()]);
    let container = bench.runtime.create(first.clone()).await.unwrap();
    sh(&container, "echo 1 > /one").await.ok();
    container.terminate().await.unwrap();
    let container = bench.runtime.create(first).await.unwrap();
    sh(&container, "echo 2 > /two; cat /one").await.ok();
    container.terminate().await.unwrap();
    assert!(upper.join("one").exists() && upper.join("two").exists());
    bench.finish().await;
}

#[tokio::test]
async fn python_environments_can_be_made() {
    let bench = Bench::new().await;
    let (spec, _) = build(&bench, "py", vec![base_layer()]);
    let container = bench.runtime.create(spec).await.unwrap();
    let script = "set -e; /usr/bin/python3 -m venv --without-pip /opt/v; /opt/v/bin/python -c 'import ssl, sqlite3; print(1)'";
    let ran = finish(container.exec(command(&["sh", "-c", script])).await.unwrap()).await;
    assert_eq!(ran.ok(), "1");
    bench.finish().await;
}
