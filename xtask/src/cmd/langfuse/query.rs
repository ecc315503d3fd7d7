//! `langfuse query`: SQL that can only read.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    context::Context,
    exit::Exit,
    reach::{Door, ServiceArgs, Services},
    table::{render, short},
};

/// Longest cell of a table for people; `--output json` cuts nothing.
const CELL: usize = 80;

/// Ask the database, as a role that can only read; a query may take 30 s
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask langfuse query 'SELECT id, name FROM traces ORDER BY timestamp DESC LIMIT 5'
  cargo xtask langfuse query 'SELECT * FROM observations' --output json

At most 10,000 rows are answered; a warning tells where there were more.")]
pub(super) struct Args {
    /// The query
    sql: String,
    #[command(flatten)]
    services: ServiceArgs,
}

/// What the database answers: values as PostgreSQL writes them.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    truncated: bool,
}

impl Answer {
    /// Asks.
    pub(crate) async fn to(door: &Door, sql: &str) -> anyhow::Result<Self> {
        let answer = door.post("/goat/postgres/query", &json!({ "sql": sql })).await?;
        Ok(serde_json::from_value(answer)?)
    }

    /// The first value of the first row.
    pub(crate) fn first(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }

    /// As a table.
    pub(crate) fn table(&self) -> String {
        let cell = |value: &Option<String>| short(value.as_deref().unwrap_or_default(), CELL);
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        let header: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        render(&header, &rows)
    }
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let services = Services::new(&args.services, context)?;
    let answer = Answer::to(&services.postgres().await?, &args.sql).await?;
    context.printer.json(&answer)?;
    context.printer.text(&answer.table());
    if answer.truncated {
        context.printer.warn("there were more rows: add a LIMIT, or take a dump");
    }
    Ok(Exit::Ok)
}
