//! `selfbench`: the one place for claims about speed.

use std::{pin::Pin, time::Duration};

use anyhow::Context as _;
use serde::Serialize;

#[cfg(target_os = "linux")]
use crate::bench::{commands, door, langfuse, lifecycle, live, transfer};
use crate::{
    bench::{agent, client_calls},
    context::Context,
    exit::{Exit, UsageError},
    table::render,
};

/// Measure this workspace beside its peers, in one run
///
/// Every figure has a peer measured on the same machine in the same minute; times alone mean nothing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask selfbench --target local
  cargo xtask selfbench sandbox-lifecycle --output json")]
pub(crate) struct Args {
    /// Benchmark; all where absent
    name: Option<String>,
    /// Seconds for each series of measurements
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
}

/// One figure beside its peer's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    /// What was measured.
    pub(crate) name: String,
    /// Our figure.
    pub(crate) ours: f64,
    /// The peer's figure; absent where the peer is not on this machine.
    pub(crate) peer: Option<f64>,
    /// Unit of both.
    pub(crate) unit: &'static str,
    /// Ours divided by the peer's.
    pub(crate) ratio: Option<f64>,
    /// What the ratio should be, for people.
    pub(crate) goal: String,
    /// Whether it is; absent where there is no peer.
    pub(crate) met: Option<bool>,
}

/// What the ratio of ours to the peer's should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At most this.
    AtMost(f64),
}

impl Measurement {
    /// Two figures in `unit`, and whether their ratio is as it should be.
    pub(crate) fn new(
        name: &str,
        ours: f64,
        peer: Option<f64>,
        unit: &'static str,
        goal: Goal,
    ) -> Self {
        let ratio = peer.map(|peer| ours / peer);
        let Goal::AtMost(most) = goal;
        Self {
            name: name.to_owned(),
            ours,
            peer,
            unit,
            ratio,
            goal: format!("at most {}", (1_000.0 * most).round() / 1_000.0),
            met: ratio.map(|ratio| ratio <= most),
        }
    }

    /// A figure that has to stay below a limit of its own.
    pub(crate) fn limit(name: &str, ours: f64, unit: &'static str, most: f64) -> Self {
        Self {
            name: name.to_owned(),
            ours,
            peer: None,
            unit,
            ratio: None,
            goal: format!("at most {most} {unit}"),
            met: Some(ours <= most),
        }
    }
}

type Measuring<'c> = Pin<Box<dyn Future<Output = anyhow::Result<Vec<Measurement>>> + 'c>>;

/// A benchmark with a name.
pub(crate) struct Benchmark {
    /// On the command line.
    pub(crate) name: &'static str,
    /// For the list.
    pub(crate) what: &'static str,
    /// Measures, for about so long.
    pub(crate) measure: for<'c> fn(&'c Context, Duration) -> Measuring<'c>,
}

/// Every benchmark.
const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "client-calls",
        what: "create, exec, wait on a server that does no work, beside the Python SDK and bare stubs",
        measure: |context, time| Box::pin(client_calls::measure(context, time)),
    },
    #[cfg(target_os = "linux")]
    Benchmark {
        name: "volumes",
        what: "many small files and 512 MiB up, 512 MiB down, beside the Python SDK",
        measure: |context, _| Box::pin(transfer::measure(context)),
    },
    #[cfg(target_os = "linux")]
    Benchmark {
        name: "commands",
        what: "listing volumes and deploying a function, beside the command `modal`",
        measure: |context, _| Box::pin(commands::measure(context)),
    },
    #[cfg(target_os = "linux")]
    Benchmark {
        name: "sandbox-lifecycle",
        what: "create, exec `true`, terminate: alone and 64 at once",
        measure: |context, time| Box::pin(lifecycle::measure(context, time)),
    },
    #[cfg(target_os = "linux")]
    Benchmark {
        name: "live",
        what: "exec in a live sandbox beside a request to init; 500 sandboxes at once",
        measure: |context, time| Box::pin(live::measure(context, time)),
    },
    Benchmark {
        name: "agent",
        what: "size, start and memory of the agent, beside mini-swe-agent",
        measure: |context, time| Box::pin(agent::measure(context, time)),
    },
    #[cfg(target_os = "linux")]
    Benchmark {
        name: "door",
        what: "what the door adds to pieces of streams and to requests, beside the same server without it",
        measure: |context, _| Box::pin(door::measure(context)),
    },
    #[cfg(target_os = "linux")]
    Benchmark {
        name: "langfuse",
        what: "ingestion of 100,000 events, beside the official Python SDK 2 on the same server",
        measure: |context, _| Box::pin(langfuse::measure(context)),
    },
];

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let wanted: Vec<_> = BENCHMARKS
        .iter()
        .filter(|benchmark| args.name.as_ref().is_none_or(|name| name == benchmark.name))
        .collect();
    if wanted.is_empty() {
        let known = BENCHMARKS.iter().map(|it| format!("\n  {}  {}", it.name, it.what));
        let known: String = known.collect();
        return Err(UsageError(format!("no benchmark of that name; there are:{known}")).into());
    }
    if cfg!(debug_assertions) {
        return in_release(context).await;
    }
    let mut measurements = Vec::new();
    for benchmark in wanted {
        context.printer.note(&format!("measuring {}: {}", benchmark.name, benchmark.what));
        let time = Duration::from_secs(args.seconds);
        measurements.extend((benchmark.measure)(context, time).await?);
    }
    context.printer.json(&measurements)?;
    context.printer.text(&table(&measurements));
    let missed = measurements.iter().any(|measurement| measurement.met == Some(false));
    Ok(if missed { Exit::Failed } else { Exit::Ok })
}

/// Builds this program as it would be shipped and measures that one: figures of a debug build say
/// nothing. It starts its own server, for the same reason.
async fn in_release(context: &Context) -> anyhow::Result<Exit> {
    context.printer.note("building with optimisation: a debug build is not worth measuring");
    let mut cargo =
        tokio::process::Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(context.workspace.path("")).args(["run", "--quiet", "--release"]);
    cargo.args(["--package", "xtask", "--"]).args(std::env::args_os().skip(1));
    let status = cargo.status().await.context("can't start cargo")?;
    match status.code() {
        Some(0) => Ok(Exit::Ok),
        Some(1) => Ok(Exit::Failed),
        Some(2) => Ok(Exit::Usage),
        _ => Ok(Exit::Infrastructure),
    }
}

fn table(measurements: &[Measurement]) -> String {
    let number =
        |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    let row = |it: &Measurement| {
        let met = match it.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not measured",
        };
        let (ours, unit) = (number(Some(it.ours)), it.unit.to_owned());
        vec![
            it.name.clone(),
            ours,
            number(it.peer),
            unit,
            number(it.ratio),
            it.goal.clone(),
            met.into(),
        ]
    };
    let rows: Vec<_> = measurements.iter().map(row).collect();
    render(&["name", "ours", "peer", "unit", "ratio", "goal", "met"], &rows)
}
