//! `soak agent`: many replayed tasks, each by a fresh agent, and nothing left of any.
//!
//! Every task has a planted key, a skill, an MCP server, a background command and a daemon that hides from
//! its parent. After each: no process of it (found by a variable that all inherit), no file beside those that it was
//! asked for, the key nowhere in what it wrote.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use llm_replay::{ReplayConfig, ReplayServer};
use sandbox_runner::Secret;
use serde_json::json;
use tokio::process::Command;

use crate::{cmd::soak::Soaking, context::Context, soak::figures::Figures};

/// Recordings, skills and servers of the tasks.
const FIXTURES: &str = "fixtures/soak";
/// Longest time of one task.
const LIMIT: Duration = Duration::from_secs(120);
/// The variable by which processes of a task are found.
const MARK: &str = "GOAT_SOAK_TASK";
/// The files that a task leaves on purpose.
const KEPT: [&str; 4] = ["background.txt", "daemon.txt", "summary.json", "transcript.jsonl"];

/// So many tasks, one after the other.
pub(crate) async fn run(context: &Context, soaking: Soaking) -> anyhow::Result<Figures> {
    let binary = crate::agent::build_own(context).await?.path;
    let tasks = soaking.tasks;
    let fixtures = context.workspace.path(FIXTURES);
    let key = Secret::random("sk-planted-")?;
    let mut config = ReplayConfig::new(vec![fixtures.join("conversations")]);
    config.key = Some(key.expose().to_owned());
    let replay = ReplayServer::start(config).await?;
    let before = open_files()?;
    for number in 0..tasks {
        let mark = format!("{}-{}-{number}", std::process::id(), soaking.seed);
        one(&binary, &fixtures, &replay.url(), &key, &mark)
            .await
            .with_context(|| format!("task {} of {tasks}", number + 1))?;
        if (number + 1) % 20 == 0 {
            context.printer.note(&format!("{} tasks, nothing left", number + 1));
        }
    }
    let after = open_files()?;
    ensure!(after <= before + 8, "this process had {before} open files and has {after}");
    let words = format!(
        "agent: {tasks} replayed tasks with a skill, an MCP server, a background command and a daemon; no process, \
         file or key left"
    );
    Figures::new(words, json!({ "tasks": tasks }))
}

async fn one(
    binary: &Path,
    fixtures: &Path,
    url: &str,
    key: &Secret,
    mark: &str,
) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (work, files) = (directory.path().join("work"), directory.path().join("tmp"));
    fs::create_dir(&work)?;
    fs::create_dir(&files)?;
    let mut command = Command::new(binary);
    command.env_clear().envs(environment(url, key, mark)).env("TMPDIR", &files).current_dir(&work);
    command.args(["--prompt", "Soak.", "--mcp-config"]).arg(fixtures.join("servers.json"));
    command.arg("--skills-dir").arg(fixtures.join("skills"));
    command.args(["--transcript", "transcript.jsonl", "--summary", "summary.json"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(LIMIT, command.output()).await.context("no end in time")??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the agent ended with {}: {said}", output.status);
    ensure!(
        output.stdout == b"Soaked.",
        "another answer: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let left = processes(mark)?;
    ensure!(left.is_empty(), "processes are left: {left:?}");
    let found = names(&work)?;
    ensure!(found == KEPT, "files are left: {found:?}");
    let temporary = names(&files)?;
    ensure!(temporary.is_empty(), "temporary files are left: {temporary:?}");
    for name in KEPT {
        let text = fs::read(work.join(name))?;
        ensure!(!holds(&text, key.expose().as_bytes()), "the key is in {name}");
    }
    ensure!(!said.contains(key.expose()), "the key is on stderr");
    Ok(())
}

/// The key twice: also under a name that says nothing.
fn environment(url: &str, key: &Secret, mark: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("PATH", std::env::var("PATH").unwrap_or_default()),
        ("OPENAI_BASE_URL", url.to_owned()),
        ("OPENAI_API_KEY", key.expose().to_owned()),
        ("COPY", key.expose().to_owned()),
        ("EVAL_MODEL", "soak".to_owned()),
        (MARK, mark.to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Processes whose environment has the mark.
fn processes(mark: &str) -> anyhow::Result<Vec<String>> {
    let wanted = format!("{MARK}={mark}");
    let directories = fs::read_dir("/proc").context("this check needs /proc")?;
    let paths = directories.flatten().map(|entry| entry.path());
    let marked = |path: &PathBuf| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let command = |path: PathBuf| fs::read_to_string(path.join("cmdline")).unwrap_or_default();
    Ok(paths.filter(marked).map(command).collect())
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn open_files() -> anyhow::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd").context("this check needs /proc")?.count())
}
