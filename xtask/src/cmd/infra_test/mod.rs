//! `infra-test`: does the whole thing work, phase by phase?
//!
//! [`check`] names the checks, [`sabotage`] says for each of them what makes it fail, a file for each phase runs
//! them, [`prove`] does the sabotages and sees the checks fail.

mod check;
mod deployed;
mod door;
mod phase;
mod phase1;
mod phase2;
mod phase3;
mod phase4;
mod phase5;
mod prove;
mod report;
mod sabotage;

use std::time::Duration;

use eval_types::RunId;

use self::{check::CheckId, phase::Phase, report::Report};
use crate::{
    backend::SandboxArgs, context::Context, exit::Exit, model::ModelArgs, reach::ServiceArgs,
};

/// Check the infrastructure, phase by phase
///
/// Each check says what answered it and, where it failed, what to do next. What can't be checked because something else
/// is missing is skipped, and what this version does not have yet is `not built yet`: neither ever counts as passed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask infra-test --target local
  cargo xtask infra-test phase5 --target local --output json
  cargo xtask infra-test --list                       every check, and what makes it fail
  cargo xtask infra-test phase3 --prove --target local

Phases 3 to 5 need `setup` and `deploy`; where traces go to an existing Langfuse they check that one. docs/infra-test.md describes the checks and the JSON.
Exit codes: 0 something passed and nothing failed, 1 a check failed, or none could pass")]
pub(crate) struct Args {
    /// Phase
    #[arg(value_enum, default_value_t = Phase::All)]
    phase: Phase,
    /// Don't ask before what costs money
    #[arg(long)]
    yes: bool,
    /// List the checks and what makes each of them fail; check nothing
    #[arg(long)]
    list: bool,
    /// Prove that every check can fail: do to it what --list says, see it fail and no other, undo that, see it pass.
    /// Stops processes of containers for seconds; target local alone
    #[arg(long, conflicts_with = "list")]
    prove: bool,
    /// Prove this check alone; may be repeated
    #[arg(long = "check", value_name = "NAME", requires = "prove", hide_possible_values = true)]
    checks: Vec<CheckId>,
    /// Seconds that a service or a trace may take to answer
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    within: u64,
    /// Phase 5: look at this run again instead of making one
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    services: ServiceArgs,
}

impl Args {
    /// How long something may take to answer.
    fn patience(&self) -> Duration {
        Duration::from_secs(self.within)
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    if args.list {
        return sabotage::list(context);
    }
    context.announce_target();
    if args.prove {
        return prove::run(&args, context).await;
    }
    let mut report = Report::new(context);
    for phase in args.phase.each() {
        match phase {
            Phase::Phase1 => phase1::run(&args, context, &mut report).await,
            Phase::Phase2 => phase2::run(&args, context, &mut report).await,
            Phase::Phase3 => phase3::run(&args, context, &mut report).await,
            Phase::Phase4 => phase4::run(&args, context, &mut report).await,
            Phase::Phase5 => phase5::run(&args, context, &mut report).await,
            Phase::Phase6 | Phase::All => report.not_built_yet(phase),
        }
        report.complete(phase);
    }
    report.finish()
}

/// Gives up where something takes longer than it may.
async fn within<T>(
    limit: Duration,
    running: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(limit, running).await {
        Ok(done) => done,
        Err(_) => anyhow::bail!("no answer within {:.0} s", limit.as_secs_f64()),
    }
}
