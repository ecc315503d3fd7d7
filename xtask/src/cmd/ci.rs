//! Run every check that a change must pass: format, lints, documentation, all tests.
//!
//! The checks run in the order in which they fail soonest; the tests are last, so that their
//! runner's closing lines are the last lines.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{exit::Exit, printer::Printer};

/// Run every check that a change must pass: format, lints, documentation, all tests
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask ci\n  cargo xtask ci --only tests")]
pub(crate) struct Args {
    /// Run one group of checks alone.
    #[arg(long, value_enum)]
    only: Option<Group>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    Format,
    Lints,
    Docs,
    Tests,
}

struct Step {
    group: Group,
    name: &'static str,
    args: &'static [&'static str],
    variable: Option<(&'static str, &'static str)>,
}

/// How one group of checks ended.
#[derive(Serialize)]
struct Done {
    check: &'static str,
    passed: bool,
}

/// What tests start besides cargo: how to ask for it, and the Debian package that brings it.
const NEEDED: &[(&[&str], &str)] = &[
    (&["cc", "--version"], "gcc"),
    (&["git", "--version"], "git"),
    (&["python3", "-c", "import ensurepip, venv"], "python3-venv"),
    (&["node", "--version"], "nodejs"),
    (&["npm", "--version"], "npm"),
];

/// Runs the checks; the exit code is 1 where one failed.
pub(crate) fn run(args: &Args, printer: &Printer) -> anyhow::Result<Exit> {
    check_machine()?;
    let mut done = Vec::new();
    for step in steps().iter().filter(|step| args.only.is_none_or(|only| only == step.group)) {
        let passed = run_step(step)?;
        done.push(Done { check: step.name, passed });
        // Later steps of a tree that does not compile only repeat the error.
        if !passed && step.group == Group::Lints {
            break;
        }
    }
    printer.json(&done)?;
    let failed: Vec<_> = done.iter().filter(|it| !it.passed).map(|it| it.check).collect();
    if failed.is_empty() {
        return Ok(Exit::Ok);
    }
    say(&format!("failed: {}", failed.join(", ")));
    Ok(Exit::Failed)
}

fn steps() -> Vec<Step> {
    let step = |group, name, args| Step { group, name, args, variable: None };
    let tests: &[&str] = if has_nextest() {
        &["nextest", "run", "--workspace", "--profile", "ci"]
    } else {
        &["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"]
    };
    vec![
        step(Group::Format, "format", &["fmt", "--all", "--check"][..]),
        step(
            Group::Lints,
            "lints",
            &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"][..],
        ),
        Step {
            group: Group::Docs,
            name: "documentation",
            args: &["doc", "--quiet", "--workspace", "--no-deps"],
            variable: Some(("RUSTDOCFLAGS", "-D warnings")),
        },
        step(
            Group::Tests,
            "examples in documentation",
            &["test", "--quiet", "--workspace", "--doc"][..],
        ),
        step(Group::Tests, "tests", tests),
    ]
}

/// One test more than there are cores: those that deploy the services wait more than they work.
fn test_threads() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores + 1).to_string()
}

fn run_step(step: &Step) -> anyhow::Result<bool> {
    say(&format!("=== {}: cargo {}", step.name, step.args.join(" ")));
    let start = Instant::now();
    let mut cargo = Command::new(cargo());
    cargo.args(step.args).stdin(Stdio::null()).envs(step.variable);
    // Only nextest reads it.
    cargo.env("NEXTEST_TEST_THREADS", test_threads());
    let status = cargo.status().with_context(|| format!("can't start cargo for {}", step.name))?;
    let verdict = if status.success() { "ok" } else { "FAILED" };
    say(&format!("=== {}: {verdict} after {} s", step.name, start.elapsed().as_secs()));
    Ok(status.success())
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn has_nextest() -> bool {
    works(&[&cargo(), "nextest", "--version"])
}

fn check_machine() -> anyhow::Result<()> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(command, _)| !works(command)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        bail!(
            "the tests need what is not installed here; on Debian: apt-get install {}",
            missing.join(" ")
        );
    }
    Ok(())
}

fn works(command: &[&str]) -> bool {
    let mut started = Command::new(command[0]);
    started.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    started.status().is_ok_and(|status| status.success())
}

/// Progress of the checks belongs to standard error, beside cargo's own.
#[expect(clippy::print_stderr, reason = "a command tells a person how far it is")]
fn say(line: &str) {
    eprintln!("{line}");
}
