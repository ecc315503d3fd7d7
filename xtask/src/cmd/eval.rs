//! `eval`: tasks, each in a sandbox of its own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::bail;
use eval_types::{Run, RunId, Variant};
use jiff::Timestamp;
use sandbox_runner::{
    Defaults, Events, Journal, Network, Plan, Report, Runner, Task,
    agent::{AgentBinary, Arch},
    benchmark,
};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{self, Connected, SandboxArgs},
    context::Context,
    eval_report,
    exit::{Cancelled, Exit, UsageError},
    model::{Model, ModelArgs},
    progress::Progress,
    results_sink::ResultsSink,
    sweep,
    target::Target,
};

/// Run tasks, each in a fresh sandbox, and keep the results
///
/// The agent (built if need be) works on a prompt in /workspace. What it prints is shown as it
/// comes; a task's check, if it has one, says whether it passed. Results go to the volume
/// goat-results and to this machine's index: see `results`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask eval --target local --batch fixtures/benchmarks/smoke.json
  cargo xtask eval --prompt 'Write hello.py and run it' --api-url https://api.openai.com/v1 \\
      --model gpt-5-nano --network llm
  cargo xtask eval --batch tasks.json --parallel 8 --output json > run.json

A file of tasks is a JSON array of {\"prompt\", \"id\"?, \"max_turns\"?, \"timeout\"?, \"setup\"?,
\"verify\"?}; fixtures/benchmarks/README.md describes it.

Exit codes: 0 all well, 1 a task failed, 2 wrong usage, 3 infrastructure, 130 cancelled")]
#[command(group(clap::ArgGroup::new("work").required(true).args(["prompt", "batch"])))]
pub(crate) struct Args {
    /// One prompt
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// A file of tasks
    #[arg(long, value_name = "FILE")]
    pub(crate) batch: Option<PathBuf>,
    /// Sandboxes at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) parallel: u16,
    /// Turns for tasks that say none
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_turns: u32,
    /// Seconds for tasks that say none
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_000))]
    pub(crate) timeout: u32,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
    /// Start on Modal without asking whether it may cost money
    #[arg(long)]
    pub(crate) yes: bool,
    /// Whether the answer to a single prompt is this command's output.
    #[arg(skip = true)]
    pub(crate) streams: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.announce_target();
    let done = evaluate(&args, context).await?;
    eval_report::show(context, &done)?;
    Ok(exit(&done.report))
}

/// A run that is over.
pub(crate) struct Done {
    pub(crate) run: Run,
    pub(crate) report: Report,
}

/// Everything that `eval` does, short of showing the result.
pub(crate) async fn evaluate(args: &Args, context: &Context) -> anyhow::Result<Done> {
    let tasks = tasks(args)?;
    refuse_deaf_agents(&args.sandbox)?;
    let stop = stop_on_signals(context);
    let prepared = tokio::select! {
        biased;
        () = stop.cancelled() => bail!(Cancelled),
        prepared = prepare(args, context, &tasks) => prepared?,
    };
    run_prepared(prepared, args, context, stop).await
}

/// Everything that a run needs, ready.
struct Prepared {
    run: Run,
    plan: Plan,
    model: Model,
    connected: Connected,
}

async fn prepare(args: &Args, context: &Context, tasks: &[Task]) -> anyhow::Result<Prepared> {
    let model = Model::choose(&args.model, context).await?;
    model.announce(context);
    let agent = agent(&args.sandbox, context).await?;
    let sandboxes = tasks.len();
    if context.choice.target == Target::Modal && !args.yes {
        let question =
            format!("This starts {sandboxes} sandboxes on Modal, which costs money. Go on?");
        if !context.printer.confirm(&question)? {
            let text = "not started: sandboxes on Modal cost money; confirm with --yes";
            bail!(UsageError(text.to_owned()));
        }
    }
    let connected = backend::connect(context, &args.sandbox, &agent).await?;
    let id = RunId::new(Timestamp::now());
    let defaults = Defaults {
        model: args.model.model.clone(),
        model_source: model.source,
        max_turns: args.max_turns,
        timeout: Duration::from_secs(args.timeout.into()),
        network: args.sandbox.network.clone(),
    };
    let parallel = usize::from(args.parallel);
    let plan = Plan::new(id.clone(), tasks, &[Variant::Baseline], &defaults, parallel)?;
    let run = Run {
        id,
        started_at: Timestamp::now(),
        finished_at: None,
        target: context.choice.target.name().to_owned(),
        environment: context.environment.clone(),
        benchmark: args.batch.as_ref().map(|path| path.display().to_string()),
        model: args.model.model.clone(),
        model_source: model.source,
        answered_by: model.answered_by.clone(),
        mode: Variant::Baseline.name().to_owned(),
        skills_dir: None,
        mcp_config: None,
        image: args.sandbox.image_name().to_owned(),
        network: args.sandbox.network.to_string(),
        agent_sha256: agent.sha256,
        total_tasks: tasks.len(),
        total_trials: plan.trials.len(),
        parallel,
        substitutions: substitutions(args, context),
    };
    Ok(Prepared { run, plan, model, connected })
}

/// What stands in for what was asked for. Where images can't be pulled, their bases are made here.
fn substitutions(args: &Args, context: &Context) -> Vec<String> {
    match context.choice.target {
        Target::Modal => Vec::new(),
        Target::Local => {
            vec![format!("image {}: its base was made on this machine", args.sandbox.image_name())]
        }
    }
}

async fn run_prepared(
    prepared: Prepared,
    args: &Args,
    context: &Context,
    stop: CancellationToken,
) -> anyhow::Result<Done> {
    let Prepared { mut run, plan, model, connected } = prepared;
    let index = context.state.index().await?;
    sweep::killed_runs(context, &index, &*connected.backend).await?;
    let _lock = context.state.lock_run(&run.id)?;
    index.begin(&run).await?;
    let (here, volume) = (context.state.files()?, connected.volume_files());
    let sink = Arc::new(ResultsSink::new(run.clone(), index, here, volume));
    let journal = Journal::create(&context.state.journal(&run.id)?).await?;
    let single = args.prompt.is_some() && args.streams;
    let progress = Progress::new(&context.printer, plan.trials.len(), single);
    let runner = Runner {
        plan: Arc::new(plan),
        backend: Arc::clone(&connected.backend),
        model: model.access(connected.relay.clone()).await?,
        events: Events::new(vec![Arc::new(journal), Arc::clone(&sink) as _, Arc::new(progress)]),
        stop,
        retry_delay: Duration::from_secs(1),
    };
    let mut report = match sandbox_runner::run(runner).await {
        Ok(report) => report,
        Err(error) => {
            // Nothing began: a closed run without trials says so.
            run.finished_at = Some(Timestamp::now());
            if let Err(error) = sink.finish(&run, &[]).await {
                context.printer.warn(&sandbox_runner::chain(&error));
            }
            context.state.forget_lock(&run.id);
            return Err(error.into());
        }
    };
    run.finished_at = Some(Timestamp::now());
    if let Err(error) = sink.finish(&run, &report.trials).await {
        report.failures.push(error.into());
    }
    context.state.forget_lock(&run.id);
    Ok(Done { run, report })
}

/// Without any network an agent can't ask its model, except one that brings its own.
fn refuse_deaf_agents(args: &SandboxArgs) -> Result<(), UsageError> {
    if args.network == Network::None && args.binary.is_none() {
        let text =
            "with --network none the agent can't reach its model; `llm` lets it reach that alone";
        return Err(UsageError(text.to_owned()));
    }
    Ok(())
}

fn tasks(args: &Args) -> anyhow::Result<Vec<Task>> {
    if let Some(path) = &args.batch {
        return Ok(benchmark::read(path)?);
    }
    let prompt = args.prompt.as_deref().unwrap_or_default();
    if prompt.trim().is_empty() {
        bail!(UsageError("the prompt is empty".to_owned()));
    }
    Ok(vec![Task::prompt("prompt".parse()?, prompt)])
}

/// The agent's binary: given, else built for the sandboxes' architecture.
pub(crate) async fn agent(args: &SandboxArgs, context: &Context) -> anyhow::Result<AgentBinary> {
    let arch = match context.choice.target {
        Target::Local => Arch::host().unwrap_or(Arch::Amd64),
        Target::Modal => Arch::Amd64,
    };
    if let Some(path) = &args.binary {
        return Ok(AgentBinary::open(path, arch)?);
    }
    let (workspace, printer) = (context.workspace.clone(), context.printer.clone());
    tokio::task::spawn_blocking(move || crate::agent::build(&workspace, arch, &printer)).await?
}

/// The first Ctrl-C (or SIGTERM, or a terminal that closes) ends the run in order, the second at once.
fn stop_on_signals(context: &Context) -> CancellationToken {
    let stop = CancellationToken::new();
    let (token, printer) = (stop.clone(), context.printer.clone());
    tokio::spawn(async move {
        wait_for_signal().await;
        printer.note("stopping: sandboxes are being ended (again: do not wait)");
        token.cancel();
        wait_for_signal().await;
        std::process::exit(130);
    });
    stop
}

#[cfg(unix)]
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    let hangup = async {
        match (!ignores_hangup()).then(|| signal(SignalKind::hangup())) {
            Some(Ok(mut hangup)) => hangup.recv().await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hangup => {}
    }
}

/// Whether this was started to outlive its terminal, as by `nohup`.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
async fn wait_for_signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

pub(crate) fn exit(report: &Report) -> Exit {
    if report.cancelled {
        Exit::Cancelled
    } else if report.has_infrastructure_error() {
        Exit::Infrastructure
    } else if report.is_success() {
        Exit::Ok
    } else {
        Exit::Failed
    }
}
