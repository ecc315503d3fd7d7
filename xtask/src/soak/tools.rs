//! Tools on the Python SDK, unchanged and from PyPI, each doing its smallest real task on the local server.
//!
//! A tool is a directory of `fixtures/tools/`: exact versions and a script. The scripts say what each step
//! did; a tool whose script fails is named at the end, after the others have run.

use std::{
    path::{Path, PathBuf},
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
        if entry.path().join("requirements.txt").is_file() {
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
    let programs = install(&tool, &context.workspace.path("target/tools").join(name)).await?;
    context.printer.note(&format!("{name}: its task"));
    let work = tempfile::tempdir()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(programs.join("python"));
    command
        .arg(tool.join("drive.py"))
        .current_dir(work.path())
        .env("PATH", format!("{}:{path}", programs.display()))
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

/// The tool's programs, installed where they are missing or others than wanted.
async fn install(tool: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let requirements = tool.join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    let (programs, done) = (directory.join("bin"), directory.join("installed"));
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(programs);
    }
    let python = match std::fs::read_to_string(tool.join("python-version")) {
        Ok(version) => format!("python{}", version.trim()),
        Err(_) => "python3".to_owned(),
    };
    let mut venv = Command::new(&python);
    venv.args(["-m", "venv", "--clear"]).arg(directory);
    must(&mut venv, &format!("{python} with its venv module is needed")).await?;
    let mut pip = Command::new(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements);
    must(&mut pip, "pinned packages must come from PyPI").await?;
    std::fs::write(done, wanted)?;
    Ok(programs)
}

async fn must(command: &mut Command, why: &str) -> anyhow::Result<()> {
    let output = command.output().await.with_context(|| why.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{why}: {}", said.trim());
    Ok(())
}
