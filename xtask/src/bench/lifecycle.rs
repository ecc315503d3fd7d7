//! create → exec `true` → terminate, beside (a) the bare cost of the same isolation without a
//! server, (b) the official Python SDK on the same server, (c) bubblewrap. The sides take turns.

use std::time::Duration;

use anyhow::Context as _;
use modal_client::{App, BuiltImage, Client, Image, NetworkAccess};
use serde::Deserialize;

use super::{
    bare::Bare,
    bubblewrap,
    clock::{Series, cpu, series},
    python::Python,
    samples::Samples,
    server::Local,
};
use crate::{
    cmd::selfbench::{Goal, Measurement},
    context::Context,
};

/// At once, where many are in flight.
const IN_FLIGHT: usize = 64;
/// How often each side has its turn.
const TURNS: usize = 5;
const SCRIPT: &str = "fixtures/bench/sandbox_lifecycle.py";

/// The turns of one side.
#[derive(Debug, Default)]
struct Side {
    /// Milliseconds of the median cycle, one at a time.
    alone: Samples,
    /// Milliseconds from the first start to the last end, divided by the number of cycles, many at once.
    together: Samples,
    /// Milliseconds of the client's CPU a cycle.
    cpu: Samples,
}

impl Side {
    fn push(&mut self, alone: Series, together: Series) {
        self.alone.push(ms(alone.median));
        self.together.push(ms(together.each));
    }
}

/// Every side. bubblewrap has no turns where it is not installed.
#[derive(Debug, Default)]
struct Sides {
    ours: Side,
    bare: Side,
    bubblewrap: Option<Side>,
    sdk: Side,
}

/// How many cycles a turn has.
#[derive(Clone, Copy, Debug)]
struct Counts {
    alone: usize,
    together: usize,
}

/// What `fixtures/bench/sandbox_lifecycle.py` prints.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Cycles {
    /// Seconds of the median cycle.
    median_s: f64,
    /// Seconds from the first start to the last end.
    wall_s: f64,
    /// Seconds of CPU of the client, all cycles.
    cpu_s: f64,
    /// How many cycles.
    cycles: usize,
}

pub(crate) async fn measure(context: &Context, time: Duration) -> anyhow::Result<Vec<Measurement>> {
    let server = Local::of(context).await?;
    let ours = Ours::new(&server.client).await?;
    let layer = base_layer(context)?;
    let bare = Bare::start(layer.clone()).await?;
    let python = Python::of(&context.workspace).await?;
    let mut sides = Sides::default();
    match bubblewrap::is_here().await {
        true => sides.bubblewrap = Some(Side::default()),
        false => context
            .printer
            .warn("bubblewrap is not here (Debian: apt-get install bubblewrap): not measured"),
    }
    // About 10 ms a cycle alone, 5 together: enough cycles to fill the time on a slow machine too.
    let alone = usize::try_from(time.as_millis() / 40)?.clamp(20, 2_000) / TURNS;
    let counts = Counts { alone, together: (alone * 2).max(2 * IN_FLIGHT) };
    ours.turn(Counts { alone: 5, together: 1 }, &mut Side::default()).await?;
    bare.measure(5, 1).await?;
    for turn in 1..=TURNS {
        context.printer.note(&format!("turn {turn} of {TURNS}"));
        ours.turn(counts, &mut sides.ours).await?;
        let alone = bare.measure(counts.alone, 1).await?;
        sides.bare.push(alone, bare.measure(counts.together, IN_FLIGHT).await?);
        if let Some(side) = &mut sides.bubblewrap {
            let alone = bubblewrap::measure(&layer, counts.alone, 1).await?;
            side.push(alone, bubblewrap::measure(&layer, counts.together, IN_FLIGHT).await?);
        }
        let few = Counts { alone: (counts.alone / 4).max(5), together: IN_FLIGHT };
        sdk_turn(&python, &server, few, &mut sides.sdk).await?;
    }
    bare.stop().await?;
    Ok(rows(&sides))
}

/// Which figure of a side a row shows.
type Figure = fn(&Side) -> &Samples;

fn rows(sides: &Sides) -> Vec<Measurement> {
    let row = |what: &str, figure: Figure, peer: Option<&Side>, goal| {
        let peer = peer.map(|side| figure(side).median());
        let name = format!("sandbox-lifecycle: {what}");
        Measurement::new(&name, figure(&sides.ours).median(), peer, "ms", Goal::AtMost(goal))
    };
    let (alone, together): (Figure, Figure) = (|side| &side.alone, |side| &side.together);
    let (bare, wrapped, sdk) = (Some(&sides.bare), sides.bubblewrap.as_ref(), Some(&sides.sdk));
    vec![
        row("one at a time, median, beside the bare isolation", alone, bare, 3.0),
        row("64 in flight, each, beside the bare isolation", together, bare, 3.0),
        row("one at a time, median, beside bubblewrap", alone, wrapped, 3.0),
        row("64 in flight, each, beside bubblewrap", together, wrapped, 1.0),
        row("one at a time, median, beside the Python SDK", alone, sdk, 1.0),
        row("64 in flight, each, beside the Python SDK", together, sdk, 1.0),
        row("CPU of the client a cycle, beside the Python SDK", |side| &side.cpu, sdk, 0.2),
    ]
}

/// Our client, with what a sandbox needs.
struct Ours {
    client: Client,
    app: App,
    image: BuiltImage,
}

impl Ours {
    async fn new(client: &Client) -> anyhow::Result<Self> {
        let client = client.clone();
        let app = client.app("selfbench").create_if_missing().await?;
        let image = client.build(&Image::debian_slim().python("3.11"), &app).await?;
        Ok(Self { client, app, image })
    }

    async fn turn(&self, counts: Counts, side: &mut Side) -> anyhow::Result<()> {
        let before = cpu()?;
        let alone = series(counts.alone, 1, |_| self.cycle()).await?;
        let together = series(counts.together, IN_FLIGHT, |_| self.cycle()).await?;
        side.push(alone, together);
        side.cpu.push(ms(cpu()? - before) / (counts.alone + counts.together) as f64);
        Ok(())
    }

    async fn cycle(&self) -> anyhow::Result<()> {
        let sandbox = self.client.sandbox(&self.app, &self.image).command(["sleep", "300"]);
        let sandbox = sandbox.network(NetworkAccess::Blocked).create().await?;
        let code = sandbox.exec(["true"]).start().await?.wait().await?;
        anyhow::ensure!(code == 0, "`true` ended with {code}");
        sandbox.terminate().await?;
        Ok(())
    }
}

async fn sdk_turn(
    python: &Python,
    server: &Local,
    counts: Counts,
    side: &mut Side,
) -> anyhow::Result<()> {
    let run = async |count: usize, in_flight: usize| {
        let arguments = [count.to_string(), in_flight.to_string()];
        python.run::<Cycles>(SCRIPT, &arguments, &server.environment).await
    };
    let (alone, together) = (run(counts.alone, 1).await?, run(counts.together, IN_FLIGHT).await?);
    side.alone.push(1e3 * alone.median_s);
    side.together.push(1e3 * together.wall_s / together.cycles as f64);
    let cycles = (alone.cycles + together.cycles) as f64;
    side.cpu.push(1e3 * (alone.cpu_s + together.cpu_s) / cycles);
    Ok(())
}

/// The base that the image above was made of: the one layer that holds a whole system.
pub(super) fn base_layer(context: &Context) -> anyhow::Result<std::path::PathBuf> {
    let layers = context.state.root().join("images/layers");
    let entries = std::fs::read_dir(&layers)
        .with_context(|| format!("can't look for a base in `{}`", layers.display()))?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.join("usr/bin/true").exists())
        .with_context(|| format!("no base in `{}`", layers.display()))
}

fn ms(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}
