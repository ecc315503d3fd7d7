//! Volumes of both versions: upload and download of trees with progress, listing, parts of files, copies,
//! renaming, and volumes that exist as long as they are held.
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example volumes
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::path::Path;

use anyhow::ensure;
use modal_client::{Client, Config, EntryKind, Environ, IgnoreRules, Volume, VolumeVersion};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(Config::from_env_and_file(&Environ::of_process())?).await?;
    let local = tempfile::tempdir()?;
    make_tree(local.path())?;
    for version in [VolumeVersion::V1, VolumeVersion::V2] {
        let name = format!("example-{version:?}-{}", std::process::id());
        let mut volume = client.volume(&name).version(version).create().await?;
        let used = use_volume(&volume, local.path()).await;
        volume.rename(format!("{name}-renamed")).await?;
        volume.delete().await?;
        used?;
    }

    // Without a name, and gone some time after it is dropped.
    let scratch = client.ephemeral_volume().await?;
    scratch.upload().bytes("short-lived", "/note").await?;
    let same = client.volumes().from_id(scratch.id()).await?;
    ensure!(same.read("note").bytes().await? == "short-lived");
    Ok(())
}

async fn use_volume(volume: &Volume, local: &Path) -> anyhow::Result<()> {
    let summary = volume
        .upload()
        .tree_without(local.join("in"), "/data", IgnoreRules::new(["**/*.tmp"])?)
        .bytes("{\"made\": \"by an example\"}", "/meta.json")
        .parallel(4)
        .on_progress(|now| println!("{} of {} bytes are there", now.bytes_done, now.bytes))
        .await?;
    println!("{} files, {} bytes", summary.files, summary.bytes);
    ensure!(summary.files == 4, "{summary:?}");

    // What exists is not replaced unless one says so.
    let again = volume.upload().bytes("{}", "/meta.json").await;
    ensure!(again.is_err_and(|error| error.is_already_exists()));
    volume.upload().bytes("0123456789", "/meta.json").overwrite(true).await?;
    ensure!(volume.read("meta.json").range(2..5).bytes().await? == "234");

    let mut files: Vec<String> = Vec::new();
    for entry in volume.list("/").recursive(true).await? {
        if entry.kind == EntryKind::File {
            files.push(entry.path);
        }
    }
    files.sort();
    ensure!(files == ["data/a.txt", "data/big.bin", "data/deep/b.txt", "meta.json"], "{files:?}");

    volume.copy(["data/a.txt"], "copy.txt", false).await?;
    volume.remove("data/deep").recursive(true).await?;
    let target = local.join(format!("out-{:?}", volume.version()));
    let done = volume.download("/", &target).parallel(3).await?;
    ensure!(done.files == 4, "{done:?}");
    ensure!(std::fs::read_to_string(target.join("copy.txt"))? == "alpha");
    ensure!(
        std::fs::read(target.join("data/big.bin"))? == std::fs::read(local.join("in/big.bin"))?
    );
    ensure!(volume.download("nothing", &target).await.is_err_and(|error| error.is_not_found()));
    Ok(())
}

/// Three files that count and one that does not.
fn make_tree(root: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(root.join("in/deep"))?;
    std::fs::write(root.join("in/a.txt"), "alpha")?;
    std::fs::write(root.join("in/deep/b.txt"), "beta")?;
    std::fs::write(root.join("in/left-out.tmp"), "scratch")?;
    // Longer than a block of a version 2 volume, and than what a version 1 volume takes in a message.
    let big: Vec<u8> = (0..9 * 1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(root.join("in/big.bin"), big)?;
    Ok(())
}
