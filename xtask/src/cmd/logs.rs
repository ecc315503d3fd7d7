//! `logs`: what the services print.

use futures::StreamExt as _;
use goat_services::app::APP;
use modal_client::{LogEntry, LogSource};
use serde_json::json;

use crate::{backend, context::Context, exit::Exit, services};

/// Show what the deployed services print
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask logs litellm --tail 50
  cargo xtask logs --follow")]
pub(crate) struct Args {
    /// A function: litellm or langfuse; without it all of the app
    function: Option<String>,
    /// How many pieces of the end
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    tail: u32,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short, conflicts_with = "tail")]
    follow: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let (client, _) = backend::client(context).await?;
    let logs = match &args.function {
        Some(name) => client.function(APP, name).await?.logs(),
        None => client.logs(&client.apps().by_name(APP).await?.id),
    };
    if args.follow {
        let mut entries = logs.follow();
        while let Some(entry) = entries.next().await {
            context.printer.text(entry?.text.trim_end_matches('\n'));
        }
        return Ok(Exit::Ok);
    }
    let entries = logs.tail(args.tail).await?;
    context.printer.json(&entries.iter().map(value).collect::<Vec<_>>())?;
    let text: String = entries.iter().map(|entry| entry.text.as_str()).collect();
    if !text.is_empty() {
        context.printer.text(text.trim_end_matches('\n'));
    }
    Ok(Exit::Ok)
}

fn value(entry: &LogEntry) -> serde_json::Value {
    let source = match entry.source {
        LogSource::Stdout => "stdout",
        LogSource::Stderr => "stderr",
        _ => "system",
    };
    json!({ "at": services::moment(entry.at), "source": source, "text": entry.text })
}
