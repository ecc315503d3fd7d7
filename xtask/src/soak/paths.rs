//! `soak paths`: hostile names, paths and requests from a seed, two hundred times as many as in CI.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::{cmd::soak::Soaking, context::Context, soak::figures::Figures};

/// Attempts of each kind; races and requests are twice as many, builds a tenth.
const ROUNDS: u32 = 5_000;

/// Runs the tests once; the same seed makes the same choices.
pub(crate) async fn run(context: &Context, soaking: Soaking) -> anyhow::Result<Figures> {
    let started = Instant::now();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(context.workspace.path(""));
    cargo.args(["test", "--workspace", "--test", "sandboxes", "hostile::", "--", "--nocapture"]);
    cargo.env("GOAT_PATHS_ROUNDS", ROUNDS.to_string());
    cargo.env("GOAT_PATHS_SEED", soaking.seed.to_string());
    let status = cargo.status().context("cargo could not be started")?;
    ensure!(status.success(), "something got out, hung or failed; seed {}", soaking.seed);
    let seconds = started.elapsed().as_secs();
    let words = format!(
        "paths: {ROUNDS} of each kind, seed {}: paths of volumes, links swapped during calls, files of \
         mounts and builds, names and ids, HTTP requests; all refused or inside, none hung, {seconds} s",
        soaking.seed
    );
    Figures::new(words, json!({ "rounds_of_each_kind": ROUNDS, "seconds": seconds }))
}
