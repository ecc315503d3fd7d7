//! `keys`: the short-lived keys of tasks.

use std::time::Duration;

use anyhow::Context as _;
use eval_types::{RunId, TaskId};
use goat_keys::{Claims, SigningKeys, TokenId};
use jiff::Timestamp;
use litellm_config::Catalogue;
use serde_json::json;

use crate::{
    context::Context,
    exit::{Exit, UsageError},
    reach::{ServiceArgs, Services},
};

/// The variable with the keys that sign.
const SIGNING_KEY: &str = "GOAT_TASK_SIGNING_KEY";

/// Short-lived keys of the proxy, one a task: issue them, revoke those of a run
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask keys issue --run run-1 --task try --model gpt-5-nano --budget 0.10
  OPENAI_API_KEY=$(cargo xtask --quiet keys issue --run run-1 --task try --model gpt-5-nano)
  cargo xtask keys revoke run-1

docs/keys.md says what a key grants and how it is checked.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Issue(Box<IssueArgs>),
    Revoke(RevokeArgs),
}

/// Print a key for one task of one run; nothing else is printed on standard output
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask keys issue --run run-1 --task try --model gpt-5-nano
  cargo xtask keys issue --run run-1 --task try --model gpt-5-nano,gpt-5-mini --seconds 3600 --rpm 60 --budget 0.10
  cargo xtask keys issue --run run-1 --task try --model gpt-5-nano --output json

The key is signed with GOAT_TASK_SIGNING_KEY of .env or the environment: no server is asked.")]
struct IssueArgs {
    /// The run: the session of its traces, and what is revoked together
    #[arg(long)]
    run: RunId,
    /// The task: the name of its traces
    #[arg(long)]
    task: TaskId,
    /// Models that it may call
    #[arg(long = "model", value_name = "MODEL", required = true, value_delimiter = ',')]
    granted: Vec<String>,
    /// Time-out of the task; the key lives five minutes longer
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Requests a minute
    #[arg(long, value_name = "N")]
    rpm: Option<u32>,
    /// Tokens a minute
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,
    /// Requests at a time
    #[arg(long, value_name = "N")]
    parallel: Option<u32>,
    /// US dollars in all
    #[arg(long, value_name = "USD", value_parser = dollars)]
    budget: Option<f64>,
    /// For the traces, as `variant:skills`; may be given again
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    services: ServiceArgs,
}

/// Take no key of a run any more, now and after a restart of the proxy
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask keys revoke run-1
  cargo xtask keys revoke run-1 --litellm-url http://127.0.0.1:4000

The proxy's door is asked with LITELLM_MASTER_KEY of .env or the environment.")]
struct RevokeArgs {
    /// The run
    run: RunId,
    #[command(flatten)]
    services: ServiceArgs,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.command {
        Command::Issue(args) => issue(&args, context),
        Command::Revoke(args) => revoke(&args, context).await,
    }
}

fn dollars(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if f64::is_finite(value) && value > 0.0 => Ok(value),
        _ => Err("it must be a number above 0".to_owned()),
    }
}

fn issue(args: &IssueArgs, context: &Context) -> anyhow::Result<Exit> {
    let services = Services::new(&args.services, context)?;
    let secret = services.secret(&[SIGNING_KEY])?;
    let keys = SigningKeys::parse(secret.expose())
        .map_err(|error| UsageError(format!("{SIGNING_KEY} can't sign: {error}")))?;
    let catalogue = args.services.sources.catalogue()?;
    for model in unknown(&args.granted, &catalogue) {
        context.printer.warn(&format!("the model catalogue has no `{model}`"));
    }
    let claims = claims(args, TokenId::generate()?);
    let token = keys.issue(&claims)?;
    context.printer.text(token.expose());
    context.printer.json(&json!({
        "token": token.expose(),
        "id": claims.id.as_ref().map(TokenId::as_str),
        "signed_by": keys.id().to_string(),
        "run": claims.run,
        "task": claims.task,
        "models": claims.models,
        "expires_at": claims.expires_at,
        "budget_usd": claims.budget_usd,
    }))?;
    context.printer.note(&format!(
        "{} may call {} until {}",
        claims.task,
        claims.models.join(", "),
        claims.expires_at
    ));
    Ok(Exit::Ok)
}

fn claims(args: &IssueArgs, id: TokenId) -> Claims {
    let timeout = Duration::from_secs(args.seconds);
    let (run, task) = (args.run.clone(), args.task.clone());
    let mut claims = Claims::for_trial(run, task, timeout, Timestamp::now())
        .with_models(args.granted.iter().map(String::as_str))
        .with_id(id);
    claims.rpm = args.rpm;
    claims.tpm = args.tpm;
    claims.parallel = args.parallel;
    claims.budget_usd = args.budget;
    claims.tags.clone_from(&args.tags);
    claims
}

/// Models that the catalogue does not have. The proxy may serve others, so that they are no mistake yet.
fn unknown<'m>(models: &'m [String], catalogue: &Catalogue) -> Vec<&'m str> {
    let is_unknown = |model: &&String| catalogue.model(model).is_none();
    models.iter().filter(is_unknown).map(String::as_str).collect()
}

async fn revoke(args: &RevokeArgs, context: &Context) -> anyhow::Result<Exit> {
    let services = Services::new(&args.services, context)?;
    let door = services.litellm().await?;
    let answer = door.post("/goat/keys/revoke", &json!({ "run": args.run })).await;
    let answer = answer.with_context(|| format!("the keys of run {} still work", args.run))?;
    context.printer.json(&answer)?;
    context.printer.text(&format!("the keys of run {} are revoked", args.run));
    Ok(Exit::Ok)
}
