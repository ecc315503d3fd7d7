//! `logs`: what the services print.

use std::time::SystemTime;

use futures::StreamExt as _;
use goat_services::app::APP;
use modal_client::{LogEntry, LogSource, Logs};
use serde_json::json;

use crate::{backend, context::Context, exit::Exit, services};

/// Pieces of the end that are shown where nobody says how many.
const TAIL: u32 = 100;

/// Show what the deployed services print
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask logs litellm --tail 50
  cargo xtask logs --follow
  cargo xtask logs --follow --tail 20
  cargo xtask logs --follow --output json     a line of JSON for each piece")]
pub(crate) struct Args {
    /// A function: litellm or langfuse; without it all of the app
    function: Option<String>,
    /// How many pieces of the end [default: 100; with --follow all that is kept]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    tail: Option<u32>,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let (client, _) = backend::client(context).await?;
    let logs = match &args.function {
        Some(name) => client.function(APP, name).await?.logs(),
        None => client.logs(&client.apps().by_name(APP).await?.id),
    };
    if args.follow {
        return follow(&logs, args.tail, context).await;
    }
    let entries = logs.tail(args.tail.unwrap_or(TAIL)).await?;
    context.printer.json(&entries.iter().map(value).collect::<Vec<_>>())?;
    let text: String = entries.iter().map(|entry| entry.text.as_str()).collect();
    if !text.is_empty() {
        context.printer.text(text.trim_end_matches('\n'));
    }
    Ok(Exit::Ok)
}

/// The end of what is kept, or all of it, then what comes.
async fn follow(logs: &Logs, tail: Option<u32>, context: &Context) -> anyhow::Result<Exit> {
    let print = |entry: &LogEntry| {
        context.printer.text(entry.text.trim_end_matches('\n'));
        context.printer.json_line(&value(entry))
    };
    let mut shown = Shown::default();
    if let Some(tail) = tail {
        let entries = logs.tail(tail).await?;
        entries.iter().try_for_each(print)?;
        shown = Shown::of(&entries);
    }
    let mut entries = logs.follow();
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        if !shown.has(&entry) {
            print(&entry)?;
        }
    }
    Ok(Exit::Ok)
}

/// What was shown of the end: the stream that goes on from there begins further back.
#[derive(Default)]
struct Shown {
    last: Option<SystemTime>,
    /// Those of that moment.
    texts: Vec<String>,
}

impl Shown {
    fn of(entries: &[LogEntry]) -> Self {
        let last = entries.iter().filter_map(|entry| entry.at).max();
        let at_last = entries.iter().filter(|entry| last.is_some() && entry.at == last);
        Self { last, texts: at_last.map(|entry| entry.text.clone()).collect() }
    }

    /// Whether it was shown, or is older than the end that was asked for.
    fn has(&mut self, entry: &LogEntry) -> bool {
        let (Some(last), Some(at)) = (self.last, entry.at) else { return false };
        if at != last {
            return at < last;
        }
        let same = self.texts.iter().position(|text| *text == entry.text);
        same.map(|same| self.texts.swap_remove(same)).is_some()
    }
}

fn value(entry: &LogEntry) -> serde_json::Value {
    let source = match entry.source {
        LogSource::Stdout => "stdout",
        LogSource::Stderr => "stderr",
        _ => "system",
    };
    json!({ "at": services::moment(entry.at), "source": source, "text": entry.text })
}
