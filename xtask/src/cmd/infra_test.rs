//! `infra-test`: does the whole thing work, phase by phase?

use anyhow::Context as _;
use clap::ValueEnum;
use sandbox_runner::agent::AgentBinary;
use serde::Serialize;

use crate::{
    backend::{self, SandboxArgs},
    cmd::eval,
    context::Context,
    exit::Exit,
    model::ModelArgs,
    target::Target,
};

/// Check the infrastructure, phase by phase
///
/// Each check says what answered it. A phase that this version does not have yet is `not built yet`,
/// never passed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask infra-test --target local
  cargo xtask infra-test phase5 --target local --output json")]
pub(crate) struct Args {
    /// Phase
    #[arg(value_enum, default_value_t = Phase::All)]
    phase: Phase,
    /// Don't ask before what costs money
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

/// The phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum Phase {
    /// Prerequisites: server, agent
    Phase1,
    /// Setup of secrets, without doing it
    Phase2,
    /// Deployment of the services
    Phase3,
    /// A call through the proxy, and its trace
    Phase4,
    /// One evaluation in a sandbox
    Phase5,
    /// A model on a GPU
    Phase6,
    /// Every phase
    All,
}

impl Phase {
    const EACH: [Self; 6] =
        [Self::Phase1, Self::Phase2, Self::Phase3, Self::Phase4, Self::Phase5, Self::Phase6];

    fn title(self) -> &'static str {
        match self {
            Self::Phase1 => "1 prerequisites",
            Self::Phase2 => "2 setup",
            Self::Phase3 => "3 services",
            Self::Phase4 => "4 proxy and traces",
            Self::Phase5 => "5 one evaluation",
            Self::Phase6 => "6 GPU model",
            Self::All => "all",
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Passed,
    Failed,
    NotBuiltYet,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
struct Check {
    phase: &'static str,
    check: String,
    status: Status,
    /// What answered, or what went wrong.
    answer: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.announce_target();
    let phases = match args.phase {
        Phase::All => Phase::EACH.to_vec(),
        one => vec![one],
    };
    let mut checks = Vec::new();
    for phase in phases {
        for check in run_phase(phase, &args, context).await {
            context.printer.text(&line(&check));
            checks.push(check);
        }
    }
    context.printer.json(&checks)?;
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let (passed, failed) = (count(Status::Passed), count(Status::Failed));
    let missing = count(Status::NotBuiltYet);
    context.printer.text(&format!("\n{passed} passed, {failed} failed, {missing} not built yet"));
    Ok(if failed == 0 && passed > 0 { Exit::Ok } else { Exit::Failed })
}

fn line(check: &Check) -> String {
    let status = match check.status {
        Status::Passed => "passed",
        Status::Failed => "FAILED",
        Status::NotBuiltYet => "not built yet",
    };
    let (phase, name, answer) = (check.phase, &check.check, &check.answer);
    format!("{phase:18}  {status:13}  {name}: {answer}").trim_end_matches([':', ' ']).to_owned()
}

async fn run_phase(phase: Phase, args: &Args, context: &Context) -> Vec<Check> {
    let check = |name: &str, result: anyhow::Result<String>| Check {
        phase: phase.title(),
        check: name.to_owned(),
        status: if result.is_ok() { Status::Passed } else { Status::Failed },
        answer: result.unwrap_or_else(|error| format!("{error:#}")),
    };
    match phase {
        Phase::Phase1 => {
            let agent = eval::agent(&args.sandbox, context).await;
            let agent = agent.inspect_err(|error| tracing::debug!(%error, "no agent"));
            vec![
                check("a server answers", server(context).await),
                check("the agent is a Linux program", described(&agent)),
                check("the agent needs nothing of an image", empty_root(&agent, context).await),
                check("python3 answers (for tests and the official SDK)", python().await),
                not_built_yet(phase, ".env holds what setup needs"),
            ]
        }
        Phase::Phase5 => vec![check("2 + 2 in a sandbox", evaluation(args, context).await)],
        _ => vec![not_built_yet(phase, "")],
    }
}

fn not_built_yet(phase: Phase, check: &str) -> Check {
    let (phase, check, answer) = (phase.title(), check.to_owned(), String::new());
    Check { phase, check, status: Status::NotBuiltYet, answer }
}

async fn python() -> anyhow::Result<String> {
    let asked = tokio::process::Command::new("python3").arg("--version").output().await;
    let answer = asked.context("can't run python3; on Debian: apt-get install python3-venv")?;
    anyhow::ensure!(answer.status.success(), "python3 does not work: {}", answer.status);
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

async fn server(context: &Context) -> anyhow::Result<String> {
    let (client, local) = backend::client(context).await?;
    client.verify().await?;
    let what = if local.is_some() { "modal-local" } else { "Modal" };
    Ok(format!("{what} at {}", client.server_url()))
}

fn described(agent: &anyhow::Result<AgentBinary>) -> anyhow::Result<String> {
    let agent = agent.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    Ok(format!("{} ({})", agent.path.display(), &agent.sha256[..12]))
}

async fn empty_root(
    agent: &anyhow::Result<AgentBinary>,
    context: &Context,
) -> anyhow::Result<String> {
    let Ok(agent) = agent else { anyhow::bail!("there is no agent") };
    if !agent.is_static {
        anyhow::bail!("it needs a dynamic loader");
    }
    let arch = match context.choice.target {
        Target::Local => sandbox_runner::agent::Arch::host(),
        Target::Modal => Some(sandbox_runner::agent::Arch::Amd64),
    };
    let Some(arch) = arch else { anyhow::bail!("this machine's architecture is not known") };
    crate::agent::prove_in_empty_root(agent, arch).await
}

/// The answer must be there: that nothing crashed is not enough.
async fn evaluation(args: &Args, context: &Context) -> anyhow::Result<String> {
    let eval = eval::Args {
        prompt: Some("What is 2 + 2? Answer with the number alone.".to_owned()),
        batch: None,
        parallel: 1,
        max_turns: 1,
        timeout: 120,
        allowance: Default::default(),
        model: args.model.clone(),
        sandbox: args.sandbox.clone(),
        extras: Default::default(),
        yes: args.yes,
        streams: false,
    };
    let done = eval::evaluate(&eval, context).await?;
    let trial = done.report.trials.first();
    let trial = trial.ok_or_else(|| anyhow::anyhow!("there was no trial"))?;
    let reason = trial.reason.clone().unwrap_or_default();
    if eval::exit(&done.report) != Exit::Ok {
        anyhow::bail!("{} {reason}", trial.outcome);
    }
    if !says_four(&trial.output) {
        anyhow::bail!("the answer was `{}`", trial.output);
    }
    let (source, by) = (done.run.model_source, &done.run.answered_by);
    Ok(format!("`{}`, by {source} ({by}), run {}", trial.output, done.run.id))
}

/// Whether the answer's only number is 4.
fn says_four(answer: &str) -> bool {
    let numbers = answer.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let mut numbers = numbers.map(|number| number.trim_matches('.')).filter(|it| !it.is_empty());
    numbers.next() == Some("4") && numbers.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_only_holds_the_digit_is_wrong() {
        assert!(says_four("4") && says_four("It is 4.\n") && says_four("**4**"));
        assert!(!says_four("44") && !says_four("5, not 4") && !says_four("0.4") && !says_four(""));
    }
}
