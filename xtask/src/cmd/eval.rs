//! `eval`: tasks, each in a sandbox of its own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::bail;
use eval_types::{Run, RunId, Trial, Variant};
use jiff::Timestamp;
use sandbox_runner::{
    Defaults, Events, Extras, Journal, ModelAccess, Network, Plan, PlannedTrial, Report, Runner,
    Stop, Task,
    agent::{AgentBinary, Arch},
    benchmark,
};

use crate::{
    allowance::AllowanceArgs,
    backend::{self, Connected, SandboxArgs},
    context::Context,
    eval_report,
    exit::{Cancelled, Exit, UsageError},
    extras::ExtrasArgs,
    model::{Model, ModelArgs},
    progress::Progress,
    results_sink::{Places, ResultsSink},
    signals::stop_on_signals,
    sweep::{self, Reach},
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
  cargo xtask eval --batch tasks.json --skills-dir skills --mcp-config servers.json

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
    pub(crate) allowance: AllowanceArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
    #[command(flatten)]
    pub(crate) extras: ExtrasArgs,
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
    refuse_deaf_agents(&args.sandbox, &tasks)?;
    let stop = stop_on_signals(context);
    let prepared = tokio::select! {
        biased;
        () = stop.asked() => {
            crate::agent::end_build();
            bail!(Cancelled)
        }
        prepared = prepare(args, context, &tasks) => prepared?,
    };
    run_prepared(prepared, args, context, stop).await
}

/// Everything that a run needs, ready.
struct Prepared {
    run: Run,
    plan: Plan,
    /// Kept while the run goes on: recordings answer as long as it lives.
    model: Model,
    access: Arc<dyn ModelAccess>,
    connected: Connected,
}

async fn prepare(args: &Args, context: &Context, tasks: &[Task]) -> anyhow::Result<Prepared> {
    let extras = args.extras.read()?;
    let variant = extras.variant();
    let mut model = Model::choose(&args.model, context).await?;
    model.announce(context);
    // Mistakes in the tasks show before anything is built or started.
    let plan = plan(args, tasks, &model, &extras)?;
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
    let connected = backend::connect(context, &args.sandbox, &agent, &extras).await?;
    sweep::left_over(context, Reach::Any).await;
    let access = model.access(connected.connection.local().cloned(), &plan).await?;
    let run = Run {
        id: plan.run.clone(),
        started_at: Timestamp::now(),
        finished_at: None,
        target: context.choice.target.name().to_owned(),
        environment: context.environment.clone(),
        benchmark: args.batch.as_ref().map(|path| path.display().to_string()),
        model: args.model.model.clone(),
        model_source: model.source,
        answered_by: model.answered_by.clone(),
        mode: mode(variant).to_owned(),
        skills_dir: args.extras.skills_dir.as_ref().map(|path| path.display().to_string()),
        mcp_config: args.extras.mcp_config.as_ref().map(|path| path.display().to_string()),
        image: args.sandbox.image_name().to_owned(),
        network: args.sandbox.network.to_string(),
        allowance: plan.allowance,
        agent_sha256: agent.sha256,
        total_tasks: tasks.len(),
        total_trials: plan.trials.len(),
        parallel: plan.parallel,
        substitutions: Vec::new(),
        error: None,
    };
    Ok(Prepared { run, plan, model, access, connected })
}

/// What is to be done, as the arguments and the tasks say.
fn plan(args: &Args, tasks: &[Task], model: &Model, extras: &Extras) -> anyhow::Result<Plan> {
    let defaults = Defaults {
        model: args.model.model.clone(),
        model_source: model.source,
        max_turns: args.max_turns,
        timeout: Duration::from_secs(args.timeout.into()),
        network: args.sandbox.network.clone(),
    };
    let (run, parallel) = (RunId::new(Timestamp::now()), usize::from(args.parallel));
    let plan = Plan::new(run, tasks, &[extras.variant()], &defaults, parallel)?;
    let allowance = args.allowance.read(&args.model.model)?;
    Ok(Plan { extras: extras.clone(), traces: model.traces, allowance, ..plan })
}

/// The word of summaries for a run of one variant.
fn mode(variant: Variant) -> &'static str {
    match variant {
        Variant::SkillsMcp => "skills+mcp",
        variant => variant.name(),
    }
}

/// Runs what was prepared. The run is written before it begins and closed when it is over.
async fn run_prepared(
    prepared: Prepared,
    args: &Args,
    context: &Context,
    stop: Stop,
) -> anyhow::Result<Done> {
    let Prepared { run, plan, model: _answers, access, connected } = prepared;
    let places = Places {
        index: context.state.index().await?,
        here: context.state.files()?,
        volume: connected.connection.volume_files(),
    };
    let id = run.id.clone();
    let _lock = context.state.lock_run(&id)?;
    let nothing: Vec<Trial> = plan.trials.iter().map(PlannedTrial::not_run).collect();
    places.index.begin(&run).await?;
    places.index.plan(&id, &nothing).await?;
    let local = connected.connection.local().cloned();
    let sink = Arc::new(ResultsSink::new(run, places, local, stop.clone()));
    let journal = Journal::create(&context.state.journal(&id)?).await?;
    let single = args.prompt.is_some() && args.streams;
    let progress = Progress::new(&context.printer, plan.trials.len(), single);
    let runner = Runner {
        plan: Arc::new(plan),
        backend: connected.backend,
        model: access,
        events: Events::new(vec![Arc::new(journal), Arc::clone(&sink) as _, Arc::new(progress)]),
        stop,
        retry_delay: Duration::from_secs(1),
    };
    let done = match sandbox_runner::run(runner).await {
        Ok(mut report) => {
            let (run, written) = sink.finish(None, &report.trials).await;
            report.failures.extend(written.err());
            Ok(Done { run, report })
        }
        Err(error) => {
            // No trial began: the run keeps why.
            if let Err(error) = sink.give_up(error.chain(), &nothing).await {
                context.printer.warn(&sandbox_runner::chain(&*error));
            }
            Err(error.into())
        }
    };
    if !sink.is_incomplete() {
        context.state.forget_lock(&id);
    }
    done
}

/// Without any network an agent can't ask its model, except one that brings its own.
fn refuse_deaf_agents(args: &SandboxArgs, tasks: &[Task]) -> Result<(), UsageError> {
    const WHY: &str = "the agent can't reach its model; `llm` lets it reach that alone";
    if args.binary.is_some() {
        return Ok(());
    }
    if args.network == Network::None {
        return Err(UsageError(format!("with --network none {WHY}")));
    }
    match tasks.iter().find(|task| task.network == Some(Network::None)) {
        Some(task) => Err(UsageError(format!("with network `none` of task `{}` {WHY}", task.id))),
        None => Ok(()),
    }
}

fn tasks(args: &Args) -> anyhow::Result<Vec<Task>> {
    if let Some(path) = &args.batch {
        return Ok(benchmark::read(path)?);
    }
    let prompt = args.prompt.as_deref().unwrap_or_default();
    if prompt.trim().is_empty() {
        bail!(UsageError("the prompt is empty".to_owned()));
    }
    if prompt.contains('\0') {
        bail!(UsageError("the prompt holds a NUL character, which no program can be given".into()));
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
        return Ok(AgentBinary::open(path, arch)?.for_image(args.image.as_deref(), arch)?);
    }
    let (workspace, printer) = (context.workspace.clone(), context.printer.clone());
    tokio::task::spawn_blocking(move || crate::agent::build(&workspace, arch, &printer)).await?
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
