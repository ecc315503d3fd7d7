//! `litellm lint`: what the real proxy would do with a configuration.

use std::{collections::BTreeMap, fmt::Write as _, fs, io::Read as _, path::PathBuf};

use anyhow::Context as _;
use litellm_config::{
    Context as LintContext, Environment, Report, Version,
    lint::{self, Finding, Level},
    rule::{self, RULES, Rule},
};
use serde_json::{Value, json};

use super::versions::Versions;
use crate::{
    context::Context,
    exit::{Exit, UsageError},
    table::render,
};

/// Hosts whose servers sleep while nobody asks them: those of this workspace's models.
const SLEEPING: &[&str] = &[".modal.run"];

/// Look for mistakes in configurations of LiteLLM, its own or anybody's
///
/// LiteLLM checks almost nothing: most mistakes are silent until a request fails, a trace is missing or a GPU wakes.
/// Each finding says what the real proxy does then and how to mend it; the tests of this workspace boot the real proxy
/// with each mistake. `# litellm-lint: allow RULE` on a line or above it allows what is meant.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask litellm lint config.yaml
  cargo xtask litellm lint config.yaml --fix
  cargo xtask litellm lint config.yaml --env-file .env --set langfuse-3
  cargo xtask litellm lint - --litellm-version 1.103.5 --output json < config.yaml

Exit codes: 0 no errors, 1 errors (with --strict also warnings), 2 wrong usage, or a file that cannot be read")]
pub(super) struct Args {
    /// Configurations; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Mend what can be mended without harm, in the files
    #[arg(long)]
    fix: bool,
    /// Warnings fail too
    #[arg(long)]
    strict: bool,
    /// Say nothing of notes
    #[arg(long)]
    no_notes: bool,
    #[command(flatten)]
    versions: Versions,
    /// The proxy's version, instead of the set's
    #[arg(long, value_name = "V")]
    litellm_version: Option<Version>,
    /// The version of the Python package langfuse beside it, instead of the set's; `none`: it is not installed
    #[arg(long, value_name = "V")]
    langfuse_sdk: Option<String>,
    /// File of lines NAME=value: all variables that the proxy will have. Without it and without --check-env this
    /// process's variables count as set, and others may be
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// This process's variables are all that the proxy will have
    #[arg(long)]
    check_env: bool,
    /// Ends of host names whose servers sleep while nobody asks
    #[arg(long, value_name = "SUFFIX", default_values = SLEEPING)]
    sleeping: Vec<String>,
    /// Workers that the proxy is started with
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
}

/// List the linter's rules, or show one
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask litellm rules\n  cargo xtask litellm rules wakes-sleeping-models"
)]
pub(super) struct RulesArgs {
    /// Rule to show
    rule: Option<String>,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let surroundings = surroundings(args).await?;
    let mut all = Vec::new();
    for path in &args.files {
        all.push(one(path, args, &surroundings, context)?);
    }
    let answer: Vec<Value> = all.iter().map(|file| file.json(args)).collect();
    context.printer.json(&answer)?;
    for file in &all {
        context.printer.text(&file.text(args));
    }
    let limit = if args.strict { Level::Warning } else { Level::Error };
    let worst = all.iter().filter_map(|file| file.report.worst()).max();
    Ok(if worst.is_some_and(|worst| worst >= limit) { Exit::Failed } else { Exit::Ok })
}

/// A file with what was found in it.
struct Linted {
    name: String,
    report: Report,
    mended: usize,
}

fn one(
    path: &PathBuf,
    args: &Args,
    around: &LintContext,
    context: &Context,
) -> anyhow::Result<Linted> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut text = read(path, is_stdin)?;
    let mut around = around.clone();
    if !is_stdin {
        around.directory = path
            .parent()
            .map(|it| if it.as_os_str().is_empty() { ".".into() } else { it.to_owned() });
    }
    let mut report = lint::lint(&text, &around);
    let mut mended = 0;
    if args.fix {
        if is_stdin {
            return Err(UsageError("--fix needs a file".to_owned()).into());
        }
        // A fix that overlaps another waits for the next round.
        for _ in 0..4 {
            let (fixed, count) = lint::fix(&text, &report);
            if count == 0 {
                break;
            }
            (text, mended) = (fixed, mended + count);
            report = lint::lint(&text, &around);
        }
        if mended > 0 {
            fs::write(path, &text).with_context(|| format!("{name} cannot be written"))?;
            context.printer.note(&format!("{name}: {mended} mended"));
        }
    }
    Ok(Linted { name, report, mended })
}

fn read(path: &PathBuf, is_stdin: bool) -> anyhow::Result<String> {
    let read = if is_stdin {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|error| UsageError(format!("{} cannot be read: {error}", path.display())).into())
}

async fn surroundings(args: &Args) -> anyhow::Result<LintContext> {
    let (set, server) = args.versions.choose(&std::env::vars().collect()).await?;
    let mut around = LintContext::new(set);
    around.langfuse_server = server;
    if let Some(version) = args.litellm_version {
        around.litellm = version;
        // The set's SDK is not that version's; which one is installed is then not known.
        around.langfuse_sdk = litellm_config::VersionSet::all()
            .iter()
            .map(|set| set.langfuse_sdk)
            .find(|sdk| version.takes_sdk(*sdk));
    }
    match args.langfuse_sdk.as_deref() {
        None => {}
        Some("none") => around.langfuse_sdk = None,
        Some(text) => {
            let version = text.parse::<Version>().map_err(|error| UsageError(error.to_string()))?;
            around.langfuse_sdk = Some(version);
        }
    }
    around.environment = environment(args)?;
    around.sleeping_hosts.clone_from(&args.sleeping);
    around.workers = args.workers;
    Ok(around)
}

fn environment(args: &Args) -> anyhow::Result<Environment> {
    let process = std::env::vars();
    let Some(path) = &args.env_file else {
        return Ok(if args.check_env {
            Environment::complete(process)
        } else {
            Environment::partial(process)
        });
    };
    let text = read(path, false)?;
    let mut variables: BTreeMap<String, String> =
        if args.check_env { process.collect() } else { BTreeMap::new() };
    for line in dotenvy::from_read_iter(text.as_bytes()) {
        // The parser's own error would quote the line, value and all.
        let (name, value) = line.map_err(|_| {
            UsageError(format!("{} has a line that is not NAME=value", path.display()))
        })?;
        variables.insert(name, value);
    }
    Ok(Environment::complete(variables))
}

impl Linted {
    fn shown<'l>(&'l self, args: &'l Args) -> impl Iterator<Item = &'l Finding> {
        self.report.findings.iter().filter(|it| !args.no_notes || it.level > Level::Note)
    }

    fn json(&self, args: &Args) -> Value {
        let findings: Vec<Value> = self
            .shown(args)
            .map(|finding| {
                json!({
                    "rule": finding.rule.name,
                    "level": finding.level,
                    "line": finding.place.line,
                    "column": finding.place.column,
                    "path": finding.path,
                    "message": finding.message,
                    "happens": finding.rule.happens,
                    "mend": finding.mend.as_deref().unwrap_or(finding.rule.mend),
                    "fix": finding.fix,
                })
            })
            .collect();
        json!({"file": self.name, "findings": findings, "variables": self.report.variables, "mended": self.mended})
    }

    fn text(&self, args: &Args) -> String {
        let mut out = String::new();
        for finding in self.shown(args) {
            let (level, rule) = (finding.level.name(), finding.rule);
            let (line, column) = (finding.place.line, finding.place.column);
            let path =
                if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
            let _ok = writeln!(
                out,
                "{}:{line}:{column}: {level}[{}] {path}{}",
                self.name, rule.name, finding.message
            );
            let _ok = writeln!(out, "  then: {}", rule.happens);
            let fixable = if finding.fix.is_empty() { "" } else { " (--fix does it)" };
            let _ok =
                writeln!(out, "  mend: {}{fixable}", finding.mend.as_deref().unwrap_or(rule.mend));
        }
        out + &self.summary()
    }

    fn summary(&self) -> String {
        let count = |level| self.report.findings.iter().filter(|it| it.level == level).count();
        let counts = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")];
        let counts = counts.map(|(level, word)| format!("{} {word}(s)", count(level)));
        let mut out = format!("{}: {}", self.name, counts.join(", "));
        if !self.report.variables.is_empty() {
            let _ok = write!(out, "; it takes the variables {}", self.report.variables.join(", "));
        }
        out
    }
}

pub(super) fn rules(args: &RulesArgs, context: &Context) -> anyhow::Result<Exit> {
    let told = |rule: &Rule| json!({"rule": rule.name, "level": rule.level, "summary": rule.summary, "happens": rule.happens, "mend": rule.mend});
    if let Some(name) = &args.rule {
        let Some(rule) = rule::named(name) else {
            return Err(UsageError(format!(
                "no rule `{name}`; `cargo xtask litellm rules` lists them"
            ))
            .into());
        };
        context.printer.json(&told(rule))?;
        let (level, summary) = (rule.level.name(), rule.summary);
        context.printer.text(&format!(
            "{name} ({level}): {summary}\n  then: {}\n  mend: {}",
            rule.happens, rule.mend
        ));
        return Ok(Exit::Ok);
    }
    context.printer.json(&RULES.iter().map(told).collect::<Vec<_>>())?;
    let rows: Vec<_> = RULES
        .iter()
        .map(|rule| {
            vec![rule.name.to_owned(), rule.level.name().to_owned(), rule.summary.to_owned()]
        })
        .collect();
    context.printer.text(&render(&["rule", "level", "mistake"], &rows));
    Ok(Exit::Ok)
}
