//! Build the agent as a static Linux binary that runs in any image.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::agent::{self, Arch};

/// Arguments of `cargo xtask build-eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask build-eval\n  cargo xtask build-eval both\n\n\
    The binaries are target/goat-eval/goat-eval-linux and target/goat-eval/goat-eval-linux-arm64.")]
pub struct Args {
    /// Processor to build for; this machine's where absent.
    #[arg(value_enum)]
    arch: Option<Which>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Which {
    Amd64,
    Arm64,
    Both,
}

/// Builds, checks and, for this machine's processor, runs it once in an empty root.
#[expect(clippy::print_stdout, reason = "the paths are this command's output")]
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    for arch in wanted(args.arch) {
        let path = agent::build(arch).await?;
        let size = std::fs::metadata(&path).context("can't look at the agent binary")?.len();
        let proof = if arch == Arch::native() && cfg!(target_os = "linux") {
            format!("runs in an empty root as `{}`", agent::prove_in_empty_root(&path).await?)
        } else {
            "static; not run, it is for another machine".to_owned()
        };
        println!("{} ({:.1} MiB): {proof}", path.display(), size as f64 / f64::from(1 << 20));
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(which: Option<Which>) -> Vec<Arch> {
    match which {
        None => vec![Arch::native()],
        Some(Which::Amd64) => vec![Arch::Amd64],
        Some(Which::Arm64) => vec![Arch::Arm64],
        Some(Which::Both) => vec![Arch::Amd64, Arch::Arm64],
    }
}
