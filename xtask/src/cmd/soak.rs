//! `soak`: the long form of checks whose short form is in CI.

use std::{pin::Pin, time::Duration};

use serde_json::json;

#[cfg(target_os = "linux")]
use crate::soak::{crash, flood, paths, tools};
use crate::{
    context::Context,
    exit::{Exit, UsageError},
    soak::{agent, faults, figures::Figures, kill, litellm},
};

/// Run a long check; its short form is in CI
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask soak kill --minutes 30 --seed 7 --target local
  GOAT_STATE_DIR=/tmp/soak cargo xtask soak crash --kills 200 --seed 7 --target local
  cargo xtask soak paths --seed 7
  cargo xtask soak agent --tasks 200
  cargo xtask soak faults --seed 7
  cargo xtask soak flood --seed 7
  cargo xtask soak litellm-lint
  cargo xtask soak quiet-proxy
  cargo xtask soak tools --target local")]
pub(crate) struct Args {
    /// Check
    name: String,
    /// How long
    #[arg(long, value_name = "M", default_value_t = 10)]
    minutes: u64,
    /// How many kills instead (for `crash`; without, 200)
    #[arg(long, value_name = "N")]
    kills: Option<u32>,
    /// How many tasks, for `agent`
    #[arg(long, value_name = "N", default_value_t = 200)]
    tasks: u64,
    /// How many requests (for `flood`; without, 2,000)
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// Seed: the same one makes the same choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What a soak is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soaking {
    /// How long.
    pub(crate) time: Duration,
    /// How many kills, where the check counts them.
    pub(crate) kills: Option<u32>,
    /// How many tasks.
    pub(crate) tasks: u64,
    /// How many requests, where the check counts them.
    pub(crate) requests: Option<u64>,
    /// For every random choice.
    pub(crate) seed: u64,
}

type Running<'c> = Pin<Box<dyn Future<Output = anyhow::Result<Figures>> + 'c>>;

/// A long check with a name. It answers its figures, for a closing note, or errs.
pub(crate) struct Soak {
    /// On the command line.
    pub(crate) name: &'static str,
    /// For the list.
    pub(crate) what: &'static str,
    /// Runs it.
    pub(crate) run: for<'c> fn(&'c Context, Soaking) -> Running<'c>,
}

/// Every soak.
const SOAKS: &[Soak] = &[
    Soak {
        name: "faults",
        what: "10,000 faults between modal-client and a server lose, double or hang no job",
        run: |context, soaking| Box::pin(faults::run(context, soaking)),
    },
    Soak {
        name: "kill",
        what: "evaluations killed at random moments lose nothing and leave nothing (target local)",
        run: |context, soaking| Box::pin(kill::run(context, soaking)),
    },
    #[cfg(target_os = "linux")]
    Soak {
        name: "crash",
        what: "the local server killed under load loses nothing that it acknowledged (target local)",
        run: |context, soaking| Box::pin(crash::run(context, soaking)),
    },
    #[cfg(target_os = "linux")]
    Soak {
        name: "paths",
        what: "5,000 hostile paths, names and requests of each kind are refused or stay inside",
        run: |context, soaking| Box::pin(paths::run(context, soaking)),
    },
    Soak {
        name: "agent",
        what: "200 replayed tasks (or --tasks) leave no process, file or key",
        run: |context, soaking| Box::pin(agent::run(context, soaking)),
    },
    #[cfg(target_os = "linux")]
    Soak {
        name: "flood",
        what: "2,000 numbered requests through proxy and traces while Langfuse, PostgreSQL and supervisors are killed",
        run: |context, soaking| Box::pin(flood::run(context, soaking)),
    },
    Soak {
        name: "litellm-lint",
        what: "every rule of the LiteLLM linter, on the real proxies of both version sets",
        run: |context, soaking| Box::pin(litellm::lint(context, soaking)),
    },
    Soak {
        name: "quiet-proxy",
        what: "the generated LiteLLM configuration wakes no model in 11 minutes (or --minutes, if more)",
        run: |context, soaking| Box::pin(litellm::quiet(context, soaking)),
    },
    #[cfg(target_os = "linux")]
    Soak {
        name: "tools",
        what: "tools from PyPI and npm that sit on Modal's SDKs do their work on the local server (target local)",
        run: |context, soaking| Box::pin(tools::run(context, soaking)),
    },
];

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let Some(soak) = SOAKS.iter().find(|soak| soak.name == args.name) else {
        let known: String =
            SOAKS.iter().map(|it| format!("\n  {}  {}", it.name, it.what)).collect();
        return Err(UsageError(format!("no soak `{}`; there are:{known}", args.name)).into());
    };
    context.printer.note(&format!("{}: {}", soak.name, soak.what));
    let time = Duration::from_secs(60 * args.minutes);
    let Args { kills, tasks, requests, seed, .. } = args;
    let soaking = Soaking { time, kills, tasks, requests, seed };
    let figures = (soak.run)(context, soaking).await?;
    let Figures { words, named } = figures;
    let answer = json!({"soak": soak.name, "seed": args.seed, "figures": named, "words": words});
    context.printer.json(&answer)?;
    context.printer.text(&words);
    Ok(Exit::Ok)
}
