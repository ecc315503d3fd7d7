//! Faults between `modal-client` and a server: the storm of its tests, fifty times as long as in CI.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::{cmd::soak::Soaking, context::Context, soak::figures::Figures};

/// How many.
const FAULTS: u32 = 10_000;

/// Runs the storm once; the same seed makes the same choices.
pub(crate) async fn run(context: &Context, soaking: Soaking) -> anyhow::Result<Figures> {
    let started = Instant::now();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(context.workspace.path(""));
    cargo.args(["test", "--workspace", "--test", "storm", "--", "--nocapture"]);
    cargo.env("GOAT_FAULTS", FAULTS.to_string());
    cargo.env("GOAT_FAULT_SEED", soaking.seed.to_string());
    let status = cargo.status().context("cargo could not be started")?;
    ensure!(status.success(), "a job was lost, doubled or hung; seed {}", soaking.seed);
    let seconds = started.elapsed().as_secs();
    let words = format!(
        "{FAULTS} faults of seed {}, no job lost, doubled or hung, {seconds} s",
        soaking.seed
    );
    Figures::new(words, json!({ "faults": FAULTS, "seconds": seconds }))
}
