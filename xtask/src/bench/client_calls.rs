//! create → exec → wait, 64 in flight, on a server that does no work: what the client itself takes, beside the official
//! Python SDK and beside the generated stubs without any comfort.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use modal_client::{App, BuiltImage, Client, Config, Image, NetworkAccess};
use modal_zero::RawClient;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{
    clock::{cpu, series},
    python::Python,
    samples::Samples,
};
use crate::{
    cmd::selfbench::{Goal, Measurement},
    context::Context,
};

const IN_FLIGHT: usize = 64;
/// How often each side has its turn.
const TURNS: u32 = 5;
/// Cycles of the Python SDK for each second that a series may take, by a first measurement: a cycle is about 3 ms.
const PYTHON_CYCLES: u64 = 200;
/// Those of ours: about 0.1 ms.
const CYCLES: u64 = 4_000;
const SCRIPT: &str = "fixtures/bench/client_calls.py";

/// What one turn of one side took, for a cycle.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Turn {
    /// Microseconds from the first start to the last end, divided by the number of cycles.
    each_us: f64,
    /// Microseconds of the client's CPU.
    cpu_us: f64,
}

/// The turns of one side.
#[derive(Debug, Default)]
struct Side {
    each: Samples,
    cpu: Samples,
}

impl Side {
    fn push(&mut self, turn: Turn) {
        self.each.push(turn.each_us);
        self.cpu.push(turn.cpu_us);
    }
}

pub(crate) async fn measure(context: &Context, time: Duration) -> anyhow::Result<Vec<Measurement>> {
    let python = Python::of(&context.workspace).await?;
    let server = ZeroServer::start().await?;
    let ours = Ours::connect(&server.url).await?;
    let raw = RawClient::connect(&server.url).await?;
    let environment = [
        ("MODAL_SERVER_URL", server.url.clone()),
        ("MODAL_TOKEN_ID", "ak-bench".to_owned()),
        ("MODAL_TOKEN_SECRET", "as-bench".to_owned()),
    ];
    let cycles =
        |a_second: u64| usize::try_from(a_second * time.as_secs().max(1) / u64::from(TURNS));
    let (count, python_count) =
        (cycles(CYCLES)?.max(IN_FLIGHT), cycles(PYTHON_CYCLES)?.max(IN_FLIGHT));
    let (mut our_side, mut raw_side, mut sdk_side) =
        (Side::default(), Side::default(), Side::default());
    for turn in 0..=TURNS {
        let ours = timed(count, |_| ours.cycle()).await?;
        let raw = timed(count, |_| async { Ok(raw.cycle().await?) }).await?;
        let arguments = [python_count.to_string(), IN_FLIGHT.to_string()];
        let sdk: Turn = python.run(SCRIPT, &arguments, &environment).await?;
        // The first turn warms up.
        if turn > 0 {
            our_side.push(ours);
            raw_side.push(raw);
            sdk_side.push(sdk);
        }
    }
    server.stop().await?;
    Ok(rows(&our_side, &raw_side, &sdk_side))
}

fn rows(ours: &Side, raw: &Side, sdk: &Side) -> Vec<Measurement> {
    let row = |what: &str, ours: &Samples, peer: &Samples, goal| {
        let name = format!("client-calls: {what}");
        Measurement::new(&name, ours.median(), Some(peer.median()), "µs", goal)
    };
    let (sdks, raws) = (Goal::AtMost(1.0 / 10.0), Goal::AtMost(1.0 / 0.6));
    vec![
        row("64 in flight, each, beside the Python SDK", &ours.each, &sdk.each, sdks),
        row("64 in flight, each, beside bare tonic stubs", &ours.each, &raw.each, raws),
        row("CPU of the client a cycle, beside the Python SDK", &ours.cpu, &sdk.cpu, sdks),
    ]
}

/// A series of this process.
async fn timed<F>(count: usize, cycle: impl Fn(usize) -> F) -> anyhow::Result<Turn>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let (begun, before) = (Instant::now(), cpu()?);
    series(count, IN_FLIGHT, cycle).await?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    Ok(Turn { each_us: each(begun.elapsed()), cpu_us: each(cpu()? - before) })
}

/// Our client, with what a sandbox needs.
struct Ours {
    client: Client,
    app: App,
    image: BuiltImage,
}

impl Ours {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = Client::connect(Config::new(url, "ak-bench", "as-bench")).await?;
        let app = client.app("selfbench").create_if_missing().await?;
        let image = client.build(&Image::debian_slim().python("3.11"), &app).await?;
        Ok(Self { client, app, image })
    }

    async fn cycle(&self) -> anyhow::Result<()> {
        let sandbox = self.client.sandbox(&self.app, &self.image).command(["sleep", "300"]);
        let sandbox = sandbox.network(NetworkAccess::Blocked).create().await?;
        let code = sandbox.exec(["true"]).start().await?.wait().await?;
        anyhow::ensure!(code == 0, "`true` ended with {code}");
        Ok(())
    }
}

/// The server that does no work, in a process of its own: its time is nobody's.
struct ZeroServer {
    url: String,
    process: Child,
}

impl ZeroServer {
    async fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-job", "serve-nothing"]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().context("its output is a pipe")?;
        let url = BufReader::new(stdout).lines().next_line().await?;
        Ok(Self { url: url.context("the server ended before it listened")?, process })
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }
}
