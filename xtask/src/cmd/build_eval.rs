//! `build-eval`: the agent as a static Linux program.

use clap::ValueEnum;
use sandbox_runner::agent::Arch;
use serde_json::json;

use crate::{agent, context::Context, exit::Exit, workspace::Workspace};

/// Build the agent as a static Linux program that runs in any image
///
/// With musl where its target and compiler are installed, else with static glibc. The result is
/// target/goat-eval/goat-eval-linux (amd64) or target/goat-eval/goat-eval-linux-arm64. Checked: a
/// Linux program, for the architecture, without a dynamic loader, and, where this machine can run
/// it, working in an empty root directory. `eval` does this by itself.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask build-eval            this machine's architecture
  cargo xtask build-eval both")]
pub(crate) struct Args {
    /// Architecture; this machine's where absent
    #[arg(value_enum)]
    arch: Option<Wanted>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wanted {
    Amd64,
    Arm64,
    Both,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let arches = match args.arch {
        Some(Wanted::Amd64) => vec![Arch::Amd64],
        Some(Wanted::Arm64) => vec![Arch::Arm64],
        Some(Wanted::Both) => vec![Arch::Amd64, Arch::Arm64],
        None => vec![Arch::host().unwrap_or(Arch::Amd64)],
    };
    let mut built = Vec::new();
    for arch in arches {
        let binary = agent::build(&context.workspace, arch, &context.printer)?;
        let proof = agent::prove_in_empty_root(&binary, arch).await?;
        let shown = Workspace::shown(&binary.path);
        let size = std::fs::metadata(&binary.path)?.len();
        let megabytes = size as f64 / 1e6;
        context
            .printer
            .text(&format!("{shown}  {} static  {megabytes:.1} MB  {proof}", arch.name()));
        built.push(json!({
            "path": binary.path, "arch": arch.name(), "bytes": size, "sha256": binary.sha256,
            "static": binary.is_static, "empty_root": proof,
        }));
    }
    context.printer.json(&built)?;
    Ok(Exit::Ok)
}
