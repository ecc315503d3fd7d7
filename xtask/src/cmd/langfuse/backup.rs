//! `langfuse backup` and `langfuse status`.

use serde_json::{Value, json};

use crate::{
    context::Context,
    exit::Exit,
    reach::{ServiceArgs, Services},
    table::render,
};

/// Show where the data came from at the last start, its base backups and its archive
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask langfuse status
  cargo xtask langfuse status --output json")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    services: ServiceArgs,
}

/// Make a base backup now; the archive of changes makes do between two
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask langfuse backup
  cargo xtask langfuse backup --langfuse-url http://127.0.0.1:3000 --output json")]
pub(super) struct Args {
    #[command(flatten)]
    services: ServiceArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let services = Services::new(&args.services, context)?;
    let made = services.postgres().await?.post("/goat/postgres/backup", &json!({})).await?;
    context.printer.json(&made)?;
    let (base, bytes) = (made["base"].as_str().unwrap_or("?"), made["bytes"].as_u64().unwrap_or(0));
    context.printer.text(&format!("base backup {base} is made: {bytes} bytes"));
    Ok(Exit::Ok)
}

pub(super) async fn status(args: &StatusArgs, context: &Context) -> anyhow::Result<Exit> {
    let services = Services::new(&args.services, context)?;
    let status = services.postgres().await?.get("/goat/postgres/status").await?;
    context.printer.json(&status)?;
    context.printer.text(&words(&status));
    Ok(Exit::Ok)
}

fn words(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let wal = &status["wal"];
    let bases = status["bases"].as_array().into_iter().flatten();
    let rows: Vec<_> = bases.map(|base| vec![text(&base["name"]), text(&base["time"])]).collect();
    format!(
        "since {}: the database {}\n{} segments archived since then, the last at {}; {} failures\n\n{}",
        text(&status["started_at"]),
        text(&status["origin"]),
        wal["archived"],
        text(&wal["last_at"]),
        wal["failed"],
        render(&["base backup", "made at"], &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_well() {
        let status = json!({
            "origin": "is restored from base backup 20261126T120000.000Z-0123abcd",
            "started_at": "2026-11-26T13:00:00Z",
            "lease": 3,
            "bases": [{ "name": "20261126T120000.000Z-0123abcd", "time": "2026-11-26T12:00:00Z" }],
            "wal": { "archived": 7, "failed": 0, "last": "x", "last_at": "2026-11-26 13:05:00+00" },
        });
        insta::assert_snapshot!(words(&status), @r"
        since 2026-11-26T13:00:00Z: the database is restored from base backup 20261126T120000.000Z-0123abcd
        7 segments archived since then, the last at 2026-11-26 13:05:00+00; 0 failures

        base backup                    made at
        20261126T120000.000Z-0123abcd  2026-11-26T12:00:00Z
        ");
    }
}
