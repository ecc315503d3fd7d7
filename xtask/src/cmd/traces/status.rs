//! `traces status`: what the spool between LiteLLM and Langfuse holds and lost.

use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    exit::Exit,
    reach::{Door, ServiceArgs, Services},
};

/// Count the events of traces: handed on, waiting, lost and why; exit code 1 if any was lost
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask traces status
  cargo xtask traces status --litellm-url http://127.0.0.1:4000 --output json

The supervisor of the proxy is asked with LITELLM_MASTER_KEY of .env or the environment.")]
pub(super) struct Args {
    #[command(flatten)]
    services: ServiceArgs,
}

/// Events since the spool was made, as the supervisor counts them.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Counts {
    pub(crate) taken: u64,
    pub(crate) waiting: u64,
    delivered: u64,
    pub(crate) refused: u64,
    duplicate: u64,
    pub(crate) dropped: u64,
    bytes: u64,
    /// Answered calls whose trace is on its way; an older supervisor does not say.
    #[serde(default)]
    awaited: u64,
    /// Answered calls whose trace never came.
    #[serde(default)]
    pub(crate) untraced: u64,
}

impl Counts {
    /// Asks the supervisor of the proxy.
    pub(crate) async fn of(proxy: &Door) -> anyhow::Result<Self> {
        Ok(serde_json::from_value(proxy.get("/goat/traces/status").await?)?)
    }
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let services = Services::new(&args.services, context)?;
    let counts = Counts::of(&services.litellm().await?).await?;
    context.printer.json(&counts)?;
    context.printer.text(&words(&counts));
    let lost = counts.dropped + counts.refused + counts.untraced;
    Ok(if lost == 0 { Exit::Ok } else { Exit::Failed })
}

fn words(counts: &Counts) -> String {
    let Counts { taken, waiting, delivered, refused, duplicate, dropped, bytes, .. } = counts;
    let Counts { awaited, untraced, .. } = counts;
    format!(
        "{taken} events of traces taken\n\
         {delivered} delivered to Langfuse\n\
         {waiting} waiting on disk ({bytes} bytes)\n\
         {duplicate} came twice and were kept once\n\
         {refused} refused by Langfuse: lost\n\
         {dropped} without room on disk: lost\n\
         {awaited} answered calls whose trace is on its way\n\
         {untraced} answered calls whose trace never came: lost with the proxy that was to send it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_say_what_is_lost() {
        let counts = Counts {
            taken: 12,
            waiting: 2,
            delivered: 9,
            refused: 1,
            duplicate: 3,
            dropped: 4,
            bytes: 512,
            awaited: 5,
            untraced: 6,
        };
        insta::assert_snapshot!(words(&counts), @r"
        12 events of traces taken
        9 delivered to Langfuse
        2 waiting on disk (512 bytes)
        3 came twice and were kept once
        1 refused by Langfuse: lost
        4 without room on disk: lost
        5 answered calls whose trace is on its way
        6 answered calls whose trace never came: lost with the proxy that was to send it
        ");
    }
}
