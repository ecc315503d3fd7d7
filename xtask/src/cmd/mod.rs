//! One file a command.

pub(crate) mod apps;
pub(crate) mod bench_job;
pub(crate) mod build_eval;
pub(crate) mod ci;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod eval;
pub(crate) mod history;
pub(crate) mod infra_test;
pub(crate) mod keys;
pub(crate) mod langfuse;
pub(crate) mod litellm;
pub(crate) mod local;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod results;
pub(crate) mod rollback;
pub(crate) mod selfbench;
pub(crate) mod setup;
pub(crate) mod soak;
pub(crate) mod stop;
pub(crate) mod traces;
pub(crate) mod urls;
pub(crate) mod whoami;

use crate::{
    cli::Command,
    context::Context,
    exit::Exit,
    sweep::{self, Reach},
};

/// Runs a command. One that looks at runs or at the local server cleans up first after commands that
/// were killed; `eval` does so once it is connected.
pub(crate) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match &command {
        Command::Results(_) | Command::InfraTest(_) => sweep::left_over(context, Reach::Any).await,
        Command::Local(args) if args.looks() => sweep::left_over(context, Reach::Running).await,
        _ => {}
    }
    match command {
        Command::Eval(args) => eval::run(*args, context).await,
        Command::Results(args) => results::run(args, context).await,
        Command::Local(args) => local::run(args, context).await,
        Command::Setup(args) => setup::run(args, context).await,
        Command::Deploy(args) => deploy::run(args, context).await,
        Command::Urls(args) => urls::run(args, context).await,
        Command::Apps(args) => apps::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Stop(args) => stop::run(args, context).await,
        Command::History(args) => history::run(args, context).await,
        Command::Rollback(args) => rollback::run(args, context).await,
        Command::Login(args) => login::run(args, context).await,
        Command::Whoami(args) => whoami::run(args, context).await,
        Command::Litellm(args) => litellm::run(args, context).await,
        Command::Keys(args) => keys::run(args, context).await,
        Command::Traces(args) => traces::run(args, context).await,
        Command::Langfuse(args) => langfuse::run(args, context).await,
        Command::BuildEval(args) => build_eval::run(args, context).await,
        Command::InfraTest(args) => infra_test::run(args, context).await,
        Command::Selfbench(args) => selfbench::run(args, context).await,
        Command::BenchJob(args) => bench_job::run(args, context).await,
        Command::Soak(args) => soak::run(args, context).await,
        Command::Ci(args) => ci::run(&args, &context.printer),
        Command::Completions(args) => completions::run(args, &context.printer),
    }
}
