//! The peer `bwrap`: the nearest isolation that its options give, once per cycle.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::clock::{Series, series};

/// Whether this machine has it.
pub(super) async fn is_here() -> bool {
    let mut version = Command::new("bwrap");
    version.arg("--version").stdout(std::process::Stdio::null());
    version.status().await.is_ok_and(|status| status.success())
}

/// New namespaces over a read-only `layer`, `true` inside. There is no second exec in a live
/// sandbox to measure: bubblewrap has none.
pub(super) async fn measure(
    layer: &Path,
    count: usize,
    in_flight: usize,
) -> anyhow::Result<Series> {
    let layer: PathBuf = layer.to_owned();
    series(count, in_flight, |_| {
        let layer = layer.clone();
        async move {
            let mut bwrap = Command::new("bwrap");
            bwrap.arg("--ro-bind").arg(layer).arg("/");
            bwrap.args(["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev", "--unshare-all"]);
            let status = bwrap.args(["--die-with-parent", "true"]).status().await?;
            anyhow::ensure!(status.success(), "bwrap: {status}");
            Ok(())
        }
    })
    .await
}
