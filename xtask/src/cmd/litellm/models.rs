//! `litellm models`: the catalogue, and what of it the proxy would serve here.

use std::collections::BTreeMap;

use litellm_config::{Catalogue, Model, VersionSet, Via};
use serde_json::{Value, json};

use super::environment::Sources;
use crate::{context::Context, exit::Exit, table::render};

/// List the models of the catalogue: who serves them, what they cost, which of them this environment has
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask litellm models
  cargo xtask litellm models --env-file .env --output json
  cargo xtask litellm models --sets

Exit codes: 0 at least one model can be served, 1 none can (no provider is complete)")]
pub(super) struct Args {
    #[command(flatten)]
    sources: Sources,
    /// List the version sets instead: LiteLLM, Langfuse's SDK, the servers that take its traces
    #[arg(long)]
    sets: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if args.sets {
        return sets(context);
    }
    let catalogue = args.sources.catalogue()?;
    let variables = args.sources.variables(context)?;
    let rows: Vec<Row<'_>> =
        catalogue.models.iter().map(|model| Row::new(model, &catalogue, &variables)).collect();
    let values: Vec<Value> = rows.iter().map(Row::json).collect();
    context.printer.json(&values)?;
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let header = ["model", "served by", "$/M in", "$/M out", "context", "max output", "tools", ""];
    context.printer.text(&render(&header, &cells));
    let served = rows.iter().filter(|row| row.missing.is_empty()).count();
    if served == 0 {
        context.printer.note("no provider is complete: set the variables of one");
        return Ok(Exit::Failed);
    }
    context.printer.note(&format!("{served} of {} models can be served here", rows.len()));
    Ok(Exit::Ok)
}

/// A model with the way that would be taken, or what the best way lacks.
struct Row<'c> {
    model: &'c Model,
    via: &'c Via,
    missing: Vec<&'c str>,
}

impl<'c> Row<'c> {
    fn new(
        model: &'c Model,
        catalogue: &'c Catalogue,
        variables: &BTreeMap<String, String>,
    ) -> Self {
        let lacks = |via: &'c Via| -> Vec<&'c str> {
            let needed =
                catalogue.providers.get(&via.provider).into_iter().flat_map(|it| it.variables());
            needed.filter(|name| !variables.contains_key(*name)).collect()
        };
        let complete = model.via.iter().find(|via| lacks(via).is_empty());
        // A catalogue without any way to a model is refused when it is read.
        let via = complete.unwrap_or(&model.via[0]);
        Self { model, via, missing: lacks(via) }
    }

    fn cells(&self) -> Vec<String> {
        let (model, via) = (self.model, self.via);
        let state = if self.missing.is_empty() {
            String::new()
        } else {
            format!("needs {}", self.missing.join(", "))
        };
        vec![
            model.name.clone(),
            format!("{}/{}", via.provider, via.model),
            format!("{:.3}", via.input),
            format!("{:.3}", via.output),
            model.context.to_string(),
            model.max_output.map(|it| it.to_string()).unwrap_or_default(),
            if model.tools { "yes" } else { "no" }.to_owned(),
            state,
        ]
    }

    fn json(&self) -> Value {
        let (model, via) = (self.model, self.via);
        json!({
            "name": model.name,
            "mode": model.mode,
            "provider": via.provider,
            "provider_model": via.model,
            "base_model": via.base_model,
            "input_usd_per_million": via.input,
            "output_usd_per_million": via.output,
            "cached_input_usd_per_million": via.cached_input,
            "context": model.context,
            "max_output": model.max_output,
            "tools": model.tools,
            "served": self.missing.is_empty(),
            "missing": self.missing,
        })
    }
}

fn sets(context: &Context) -> anyhow::Result<Exit> {
    context.printer.json(&VersionSet::all())?;
    let rows: Vec<_> = VersionSet::all()
        .iter()
        .map(|set| {
            let servers: Vec<_> = set.langfuse_servers.iter().map(ToString::to_string).collect();
            vec![
                set.name.clone(),
                set.litellm.to_string(),
                set.langfuse_sdk.to_string(),
                servers.join(", "),
                set.sends.path().to_owned(),
                format!("{}{}", set.summary, if set.default { " (default)" } else { "" }),
            ]
        })
        .collect();
    let header = ["set", "litellm", "langfuse sdk", "langfuse servers", "sends to", "for"];
    context.printer.text(&render(&header, &rows));
    Ok(Exit::Ok)
}
