//! The command line as types.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{cmd, target::Target};

/// Goat's evaluation infrastructure, on Modal or on this machine.
///
/// The first thing to try needs no account and no key:
///
///   cargo xtask eval --target local --batch fixtures/benchmarks/smoke.json
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, propagate_version = true)]
#[command(verbatim_doc_comment, after_help = crate::exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where sandboxes run. Without it: GOAT_TARGET, else `modal` where a token or MODAL_SERVER_URL
    /// is configured, else `local`
    #[arg(long, global = true, value_enum)]
    pub(crate) target: Option<Target>,
    /// Environment of Modal
    #[arg(long = "env", global = true, value_name = "NAME", default_value = "goat")]
    pub(crate) environment: String,
    /// What is printed on standard output
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Say nothing but results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Say more of what happens inside; -vv and -vvv even more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Who reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// People.
    Text,
    /// Programs: one JSON value, stable.
    Json,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    Eval(Box<cmd::eval::Args>),
    Results(cmd::results::Args),
    Local(cmd::local::Args),
    Setup(cmd::setup::Args),
    Deploy(cmd::deploy::Args),
    Urls(cmd::urls::Args),
    Apps(cmd::apps::Args),
    Logs(cmd::logs::Args),
    Stop(cmd::stop::Args),
    History(cmd::history::Args),
    Rollback(cmd::rollback::Args),
    Login(cmd::login::Args),
    Whoami(cmd::whoami::Args),
    Litellm(cmd::litellm::Args),
    Keys(cmd::keys::Args),
    Traces(cmd::traces::Args),
    Langfuse(cmd::langfuse::Args),
    BuildEval(cmd::build_eval::Args),
    InfraTest(cmd::infra_test::Args),
    Selfbench(cmd::selfbench::Args),
    BenchJob(cmd::bench_job::Args),
    Soak(cmd::soak::Args),
    Ci(cmd::ci::Args),
    Completions(cmd::completions::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn help(path: &[&str]) -> String {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut command = &mut command;
        for name in path {
            command = command.find_subcommand_mut(name).unwrap();
        }
        command.clone().render_long_help().to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_texts() {
        insta::assert_snapshot!("help", help(&[]));
        for command in Cli::command().get_subcommands().filter(|it| !it.is_hide_set()) {
            let name = command.get_name();
            insta::assert_snapshot!(format!("help_{name}"), help(&[name]));
        }
        let whole = Cli::command();
        for group in ["litellm", "keys", "traces", "langfuse"] {
            for command in whole.find_subcommand(group).unwrap().get_subcommands() {
                let name = command.get_name();
                insta::assert_snapshot!(format!("help_{group}_{name}"), help(&[group, name]));
            }
        }
    }

    #[test]
    fn a_mistyped_command_or_flag_is_guessed() {
        let guess = |arguments: &[&str]| {
            let arguments = ["cargo xtask"].iter().chain(arguments);
            Cli::try_parse_from(arguments).map(|_| ()).unwrap_err().to_string()
        };
        assert!(guess(&["evall"]).contains("'eval'"), "{}", guess(&["evall"]));
        assert!(guess(&["eval", "--promt", "x"]).contains("'--prompt'"));
    }
}
