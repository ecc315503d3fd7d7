//! `langfuse restore`: back to an older state.

use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    context::Context,
    exit::{Exit, UsageError},
    reach::{Door, ServiceArgs, Services},
};

/// How long Langfuse may take until it is there again.
const WITHIN: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(1);

/// Go back to an older state; asks first, and keeps the present one as a base backup
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("aim").required(true))]
#[command(after_help = "\
Examples:
  cargo xtask langfuse restore --until 2026-11-26T12:00:00Z
  cargo xtask langfuse restore --base 20261126T120000.000Z-0123abcd --yes

Langfuse is away while it happens; traces wait in the proxy's spool. `langfuse status` lists the base
backups. Exit codes: 1 nobody said yes")]
pub(super) struct Args {
    /// The state at that time
    #[arg(long, value_name = "TIME", group = "aim")]
    until: Option<Timestamp>,
    /// The state of that base backup
    #[arg(long, value_name = "NAME", group = "aim")]
    base: Option<String>,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    services: ServiceArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let door = Services::new(&args.services, context)?.postgres().await?;
    let before = door.get("/goat/postgres/status").await?["started_at"].clone();
    let aim = match (&args.until, &args.base) {
        (Some(until), _) => json!({ "until": until }),
        (None, Some(base)) => json!({ "base": base }),
        (None, None) => return Err(UsageError("give --until or --base".to_owned()).into()),
    };
    let question = format!("Langfuse's database goes back to {}. Go on?", words(args));
    if !args.yes && !context.printer.confirm(&question)? {
        context.printer.failure("nothing was done: nobody said yes (--yes for scripts)");
        return Ok(Exit::Failed);
    }
    let from = door.post("/goat/postgres/restore", &aim).await?;
    context.printer.note("restoring");
    let status = wait(&door, &before).await?;
    context.printer.json(&json!({ "from": from["from"], "status": status }))?;
    let origin = status["origin"].as_str().unwrap_or("?");
    context.printer.text(&format!("the database {origin}"));
    if origin.starts_with("goes back") {
        return Ok(Exit::Ok);
    }
    bail!(
        "that state could not be restored; Langfuse's log says why, and the newest state is in place"
    )
}

fn words(args: &Args) -> String {
    match (&args.until, &args.base) {
        (Some(until), _) => until.to_string(),
        (None, base) => format!("base backup {}", base.as_deref().unwrap_or("?")),
    }
}

/// Waits until it was started anew.
async fn wait(door: &Door, before: &Value) -> anyhow::Result<Value> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut last = "it still runs as before".to_owned();
    while tokio::time::Instant::now() < deadline {
        match door.get("/goat/postgres/status").await {
            Ok(status) if status["started_at"] != *before => return Ok(status),
            Ok(_) => {}
            Err(error) => last = format!("{error:#}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("Langfuse did not come back within {} s: {last}", WITHIN.as_secs())
}
