//! `soak litellm-lint` and `soak quiet-proxy`: the long forms of the tests of `litellm-config` against real proxies.
//!
//! The tests themselves are run, told by a variable to take everything; they install LiteLLM where it is missing.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{cmd::soak::Soaking, context::Context, soak::figures::Figures};

/// LiteLLM asks its upstreams every 300 s: two rounds, and a minute.
const QUIET: Duration = Duration::from_secs(660);

/// Every rule, with every mistake of it and a working configuration beside each, on the proxies of both version sets.
pub(crate) async fn lint(context: &Context, _: Soaking) -> anyhow::Result<Figures> {
    run(context, "proof::", ("GOAT_LITELLM_PROOF", "all".to_owned())).await
}

/// The generated configuration asks nothing by itself, on the proxies of both version sets; without its switch the
/// newer one does.
pub(crate) async fn quiet(context: &Context, soaking: Soaking) -> anyhow::Result<Figures> {
    let seconds = soaking.time.max(QUIET).as_secs();
    run(context, "generated::", ("GOAT_LITELLM_QUIET_SECONDS", seconds.to_string())).await
}

/// Runs the tests of that module; the lines in which they tell their figures.
async fn run(context: &Context, tests: &str, variable: (&str, String)) -> anyhow::Result<Figures> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command
        .args(["test", "--package", "litellm-config", "--test", "it", "--", tests, "--nocapture"])
        // One proxy's timers must not wait for another's.
        .arg("--test-threads=2")
        .env(variable.0, variable.1)
        .current_dir(context.workspace.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("cargo cannot be started")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut figures = Vec::new();
    while let Some(line) = lines.next_line().await? {
        context.printer.note(&line);
        if line.contains("on LiteLLM") || line.contains("asked nothing in") {
            figures.push(line);
        }
    }
    let status = child.wait().await?;
    ensure!(status.success(), "a test failed: see above");
    ensure!(figures.len() >= 2, "the tests told no figures of both version sets");
    Figures::new(figures.join("\n"), json!({ "proxies": figures }))
}
