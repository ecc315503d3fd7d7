//! `litellm config`: the proxy's configuration for the providers of this environment.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use litellm_config::{
    Context as LintContext, Environment, VersionSet,
    generate::{StandIn, Wanted, generate},
    hook,
    lint::{self, Level},
};
use serde_json::json;

use super::{environment::Sources, versions::Versions};
use crate::{
    context::Context,
    exit::{Exit, UsageError},
    workspace::Workspace,
};

/// Write the proxy's configuration for the providers that are configured
///
/// Models come from the catalogue, each by the first provider whose variables are all set. Secrets are never written:
/// the file names variables. What would lose traces is refused.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask litellm config
  cargo xtask litellm config --into /tmp/proxy
  cargo xtask litellm config --langfuse-url https://langfuse.example --into /tmp/proxy
  cargo xtask litellm config --stand-in http://127.0.0.1:8080/v1 --no-keys

Exit codes: 0 written, 1 no provider is complete, 2 a combination of versions would lose traces, 3 Langfuse does not
answer")]
pub(super) struct Args {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    versions: Versions,
    /// Directory for config.yaml, goat_auth.py (the hook that checks keys) and requirements.txt (every package with
    /// its version); without it the configuration is printed
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// An OpenAI-compatible server, with /v1, that answers for every model in its provider's place; its key is the
    /// variable GOAT_STAND_IN_KEY
    #[arg(long, value_name = "URL")]
    stand_in: Option<String>,
    /// No hook that checks the keys of tasks: the master key is the only one
    #[arg(long)]
    no_keys: bool,
    /// No traces
    #[arg(long)]
    no_traces: bool,
}

/// The variable with the key of `--stand-in`.
const STAND_IN_KEY: &str = "GOAT_STAND_IN_KEY";

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let catalogue = args.sources.catalogue()?;
    let variables = args.sources.variables(context)?;
    let (set, server) = args.versions.choose(&variables).await?;
    if !args.no_traces {
        Versions::must_deliver(set, server)?;
    }
    let mut wanted = match &args.stand_in {
        None => Wanted::new(set, &catalogue, |name| variables.contains_key(name)),
        Some(url) => {
            let stand_in = StandIn { api_base: url.clone(), key_variable: STAND_IN_KEY.to_owned() };
            Wanted::with_stand_in(set, &catalogue, stand_in)
        }
    };
    (wanted.checks_keys, wanted.traces) = (!args.no_keys, !args.no_traces);
    if wanted.offers.is_empty() {
        context.printer.failure(
            "no provider is complete; `cargo xtask litellm models` shows what each one needs",
        );
        return Ok(Exit::Failed);
    }
    let text = generate(&wanted).render();
    check(&text, set, server)?;
    match &args.into {
        None => {
            context
                .printer
                .json(&json!({"set": set, "langfuse_server": server, "config": text}))?;
            context.printer.text(text.trim_end());
        }
        Some(directory) => write(directory, &text, &wanted, context)?,
    }
    Ok(Exit::Ok)
}

/// What is generated has no mistake; a stand-in's address may.
fn check(text: &str, set: &VersionSet, server: Option<u32>) -> anyhow::Result<()> {
    let mut context = LintContext::new(set);
    context.langfuse_server = server;
    context.environment = Environment::partial([]);
    let report = lint::lint(text, &context);
    let worst = report.findings.iter().find(|finding| finding.level == Level::Error);
    match worst {
        None => Ok(()),
        Some(finding) => {
            let (path, message, mend) = (&finding.path, &finding.message, finding.rule.mend);
            Err(UsageError(format!("{path}: {message}; {mend}")).into())
        }
    }
}

fn write(
    directory: &std::path::Path,
    text: &str,
    wanted: &Wanted<'_>,
    context: &Context,
) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("{} cannot be made", directory.display()))?;
    let mut files = vec![("config.yaml", text), ("requirements.txt", wanted.set.requirements())];
    if wanted.checks_keys {
        files.push((hook::FILE_NAME, hook::source()));
    }
    let mut written = Vec::new();
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        written.push(Workspace::shown(&path));
    }
    context.printer.json(&json!({"set": wanted.set, "written": written}))?;
    context.printer.text(&written.join("\n"));
    context.printer.note(&format!(
        "for LiteLLM {} with langfuse {}; install with pip install --no-deps --requirement",
        wanted.set.litellm, wanted.set.langfuse_sdk
    ));
    Ok(())
}
