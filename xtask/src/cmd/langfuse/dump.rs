//! `langfuse dump`: the database as SQL.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::{
    context::Context,
    exit::Exit,
    reach::{ServiceArgs, Services},
};

/// Write the whole database as SQL, without owners and grants
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask langfuse dump --into langfuse.sql
  createdb copy && psql copy < langfuse.sql

The file is there whole or not at all, and only you can read it: it holds prompts, answers and
hashes of keys.")]
pub(super) struct Args {
    /// The file to write
    #[arg(long, value_name = "FILE")]
    into: PathBuf,
    #[command(flatten)]
    services: ServiceArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let door = Services::new(&args.services, context)?.postgres().await?;
    let mut answer = door.open("/goat/postgres/dump").await?;
    let parent = args.into.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = parent.map_or_else(|| PathBuf::from("."), PathBuf::from);
    // Made for its owner alone.
    let file = tempfile::NamedTempFile::new_in(&directory);
    let file = file.with_context(|| format!("can't write to {}", directory.display()))?;
    let mut writer = tokio::fs::File::from_std(file.reopen()?);
    let mut bytes = 0_u64;
    while let Some(piece) = answer.chunk().await.context("the dump broke off")? {
        writer.write_all(&piece).await?;
        bytes += piece.len() as u64;
    }
    writer.sync_all().await?;
    file.persist(&args.into).with_context(|| format!("can't write {}", args.into.display()))?;
    context.printer.json(&json!({ "file": args.into, "bytes": bytes }))?;
    context.printer.text(&format!("{}: {bytes} bytes", args.into.display()));
    Ok(Exit::Ok)
}
