//! `setup`: the environment with its secrets and volumes.

mod apply;
pub(crate) mod deployed;
pub(crate) mod env_path;
mod show;

use std::{
    collections::BTreeSet,
    io::{ErrorKind, IsTerminal as _},
    path::{Path, PathBuf},
};

use goat_services::{
    EnvFile, SecretString, SetupPlan, Source, Values, Wishes,
    catalog::{PROVIDERS, SECRETS},
};

use crate::{context::Context, exit::Exit, signals::Interruption, target::Target};

/// Make the environment with its secrets and volumes, and add what is missing
///
/// Values come from the file, then from the environment, then by default; what nobody gives and nobody
/// needs to know is generated and kept in the file, which only you can read. What is deployed already
/// is never replaced unasked.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask setup --dry-run                     what would be done, and why
  cargo xtask setup --target local --yes          all of it on this machine, no question asked
  cargo xtask setup --rotate LITELLM_MASTER_KEY   a new value for one key
  cargo xtask setup --check --output json         for scripts: exit code 1 if something is missing")]
pub(crate) struct Args {
    /// Say what would be done and do nothing; exit code 1 where it would fail
    #[arg(long)]
    dry_run: bool,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
    /// Do nothing; exit code 1 unless all is there as the file says
    #[arg(long, conflicts_with = "dry_run")]
    check: bool,
    /// Replace these deployed values: by new ones where they are generated, else by those of the file
    #[arg(long, value_name = "KEY", num_args = 1.., value_delimiter = ',')]
    rotate: Vec<String>,
    /// The file with values; without it GOAT_ENV_FILE, else `.env` of the repository
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.announce_target();
    let interruption = Interruption::listen(context);
    let path = env_path::choose(args.env_file.as_deref(), context)?;
    let mut file = EnvFile::read(&path)?;
    let mut values = values(&file);
    let wishes = Wishes {
        rotate: args.rotate.iter().cloned().collect::<BTreeSet<_>>(),
        needs_provider: needs_provider(context),
    };
    let found = deployed::look(context, args.dry_run || args.check).await?;
    let asks = asks(&args, context);
    if asks
        && wishes.needs_provider
        && ask_for_provider(&mut values, &found.deployed, context)? == Asked::Cancelled
    {
        context.printer.note("cancelled: nothing was changed");
        return Ok(Exit::Cancelled);
    }
    let plan = SetupPlan::new(&found.deployed, &values, &found.fingerprints, &wishes)?;
    show::plan(&plan, &path, context)?;
    let ignored = env_path::is_kept_out_of_git(&path);
    for problem in &plan.problems {
        context.printer.failure(&problem.to_string());
    }
    if let Err(why) = &ignored {
        context.printer.failure(&format!("{why:#}"));
    }
    if !plan.problems.is_empty() || ignored.is_err() {
        return Ok(Exit::Failed);
    }
    if args.check {
        return Ok(if show::is_as_wanted(&plan) { Exit::Ok } else { Exit::Failed });
    }
    if plan.is_done() {
        context.printer.note("nothing to do");
        return Ok(Exit::Ok);
    }
    if args.dry_run {
        context.printer.note("nothing was done (--dry-run)");
        return Ok(Exit::Ok);
    }
    let wanted = apply::choose(&plan, asks, context)?;
    if wanted.is_empty() {
        context.printer.note("nothing was done");
        return Ok(Exit::Ok);
    }
    if interruption.begin() {
        return Ok(Exit::Cancelled);
    }
    apply::carry_out(&plan, &wanted, &found, &mut file, &interruption, context).await
}

/// What setting up would do, looked at without asking anybody and without doing any of it.
pub(crate) async fn plan(env_file: Option<&Path>, context: &Context) -> anyhow::Result<SetupPlan> {
    let file = EnvFile::read(&env_path::choose(env_file, context)?)?;
    let found = deployed::look(context, true).await?;
    let wishes = Wishes { needs_provider: needs_provider(context), ..Wishes::default() };
    Ok(SetupPlan::new(&found.deployed, &values(&file), &found.fingerprints, &wishes)?)
}

fn values(file: &EnvFile) -> Values {
    let names = SECRETS.iter().flat_map(|secret| secret.keys).map(|key| key.name);
    Values::find(names, file, |name| std::env::var(name).ok())
}

/// On this machine recordings stand in for models.
fn needs_provider(context: &Context) -> bool {
    context.choice.target == Target::Modal
}

/// Whether somebody is there to be asked.
fn asks(args: &Args, context: &Context) -> bool {
    let changes = !args.yes && !args.dry_run && !args.check;
    changes && !context.printer.is_json() && std::io::stdin().is_terminal()
}

#[derive(PartialEq, Eq)]
enum Asked {
    Answered,
    /// Ctrl-C, which is a key like others where nothing is echoed.
    Cancelled,
}

/// Asks for the keys of providers where none is complete, without showing what is typed.
fn ask_for_provider(
    values: &mut Values,
    deployed: &goat_services::Deployed,
    context: &Context,
) -> anyhow::Result<Asked> {
    let secret = deployed.secrets.get(goat_services::catalog::PROVIDERS_SECRET);
    let has = |values: &Values, key: &str| {
        values.get(key).is_some() || secret.is_some_and(|secret| secret.keys.contains(key))
    };
    let is_complete =
        |values: &Values| PROVIDERS.iter().any(|it| it.keys.iter().all(|key| has(values, key)));
    if is_complete(values) {
        return Ok(Asked::Answered);
    }
    context
        .printer
        .note("no provider of models is complete; give one of them, or nothing to go on");
    for provider in PROVIDERS {
        for key in provider.keys {
            let known = values.get(key).is_some_and(|(_, source)| source != Source::Typed);
            if known {
                continue;
            }
            let typed = match rpassword::prompt_password(format!("{} {key}: ", provider.name)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    return Ok(Asked::Cancelled);
                }
                typed => typed?,
            };
            if typed.trim().is_empty() {
                break;
            }
            values.typed(key, SecretString::from(typed.trim()));
        }
        if is_complete(values) {
            break;
        }
    }
    Ok(Asked::Answered)
}
