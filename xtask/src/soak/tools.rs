//! Tools on Modal's SDKs, unchanged and from PyPI or npm, each doing its smallest real task on the local server.
//!
//! A tool is a directory of `fixtures/tools/`: exact versions and a script. The scripts say what each step
//! did; a tool whose script fails is named at the end, after the others have run.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::process::Command;

use crate::{
    cmd::{local, soak::Soaking},
    context::Context,
    soak::figures::Figures,
    target::Target,
};

/// Where the tools are.
const TOOLS: &str = "fixtures/tools";
/// No script takes longer, even where its image has to be built first.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs every tool.
pub(crate) async fn run(context: &Context, _: Soaking) -> anyhow::Result<Figures> {
    ensure!(
        context.choice.target == Target::Local,
        "the tools are driven against the local server: add --target local"
    );
    let began = Instant::now();
    let (mut steps, mut failed) = (Vec::new(), Vec::new());
    for name in names(&context.workspace.path(TOOLS))? {
        match drive(context, &name).await {
            Ok(done) => steps.extend(done.into_iter().map(|step| format!("{name}: {step}"))),
            Err(error) => {
                context.printer.note(&format!("{name}: {error:#}"));
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "not done by {}: see above", failed.join(", "));
    ensure!(!steps.is_empty(), "no tool did anything");
    let words =
        format!("{}\n{} steps in {} s", steps.join("\n"), steps.len(), began.elapsed().as_secs());
    Figures::new(words, json!({ "steps": steps }))
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).context("the tools' directory can't be read")? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Runs one tool's script; the lines in which it says what it did.
async fn drive(context: &Context, name: &str) -> anyhow::Result<Vec<String>> {
    let tool = context.workspace.path(TOOLS).join(name);
    context.printer.note(&format!("{name}: its packages"));
    let mut command = install(&tool, &context.workspace.path("target/tools").join(name)).await?;
    context.printer.note(&format!("{name}: its task"));
    let work = tempfile::tempdir()?;
    command
        .current_dir(work.path())
        .envs(local::variables(context).await?)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.context("it took too long")?.context("its script can't be started")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{said}\n{}", output.status, errors.trim());
    let steps: Vec<String> =
        said.lines().filter(|line| line.ends_with(" ok")).map(str::to_owned).collect();
    ensure!(!steps.is_empty(), "it says nothing of what it did:\n{said}");
    Ok(steps)
}

/// What runs the tool's script; its packages are installed where they are missing or others than wanted.
async fn install(tool: &Path, directory: &Path) -> anyhow::Result<Command> {
    let is_python = tool.join("requirements.txt").is_file();
    let pins = if is_python { "requirements.txt" } else { "package-lock.json" };
    let wanted = std::fs::read_to_string(tool.join(pins))
        .with_context(|| format!("{} has no {pins}", tool.display()))?;
    let done = directory.join("installed");
    if !std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        match is_python {
            true => install_python(tool, directory).await?,
            false => install_javascript(tool, directory).await?,
        }
        std::fs::write(done, wanted)?;
    }
    if is_python { python(tool, directory) } else { javascript(tool, directory) }
}

async fn install_python(tool: &Path, directory: &Path) -> anyhow::Result<()> {
    let python = match std::fs::read_to_string(tool.join("python-version")) {
        Ok(version) => format!("python{}", version.trim()),
        Err(_) => "python3".to_owned(),
    };
    let mut venv = Command::new(&python);
    venv.args(["-m", "venv", "--clear"]).arg(directory);
    must(&mut venv, &format!("{python} with its venv module is needed")).await?;
    let mut pip = Command::new(directory.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]);
    pip.arg(tool.join("requirements.txt"));
    must(&mut pip, "pinned packages must come from PyPI").await
}

async fn install_javascript(tool: &Path, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(tool.join(name), directory.join(name))?;
    }
    // It keeps to the lock; `ci` would also ask for optional packages of other systems, which no lock made here has.
    let mut npm = Command::new("npm");
    npm.args(["install", "--loglevel=error", "--ignore-scripts", "--no-audit", "--no-fund"]);
    npm.current_dir(directory);
    must(&mut npm, "npm is needed, and pinned packages must come from its registry").await
}

fn python(tool: &Path, directory: &Path) -> anyhow::Result<Command> {
    let programs = directory.join("bin");
    let mut path = vec![programs.clone()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut command = Command::new(programs.join("python"));
    command.arg(tool.join("drive.py")).env("PATH", std::env::join_paths(path)?);
    Ok(command)
}

/// A module finds its packages from where it lies.
fn javascript(tool: &Path, directory: &Path) -> anyhow::Result<Command> {
    let script = directory.join("drive.mjs");
    std::fs::copy(tool.join("drive.mjs"), &script)?;
    let mut command = Command::new("node");
    command.arg(script);
    Ok(command)
}

async fn must(command: &mut Command, why: &str) -> anyhow::Result<()> {
    let output = command.output().await.with_context(|| why.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{why}: {}", said.trim());
    Ok(())
}
