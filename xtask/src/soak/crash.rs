//! The local server killed by SIGKILL at seeded moments under load: what it acknowledged is there
//! afterwards, every sandbox has an end, and nothing of what ran is left on this machine.
//!
//! Most kills are at a named [`Point`] of the server's own work: it is told at which, and for the how
//! manieth time that it comes there, and ends itself by SIGKILL in the middle. It leaves a note that
//! it was there, which is what is counted. The others come from outside, at any moment.

mod leftovers;
mod load;
mod repeats;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use modal_client::Client;
use modal_local::{
    StateDir, daemon,
    failpoint::{Phase, Point, VARIABLE},
};
use serde_json::json;

use self::{
    load::{Acknowledged, Load},
    repeats::Scene,
};
use crate::{
    backend,
    cmd::{local, soak::Soaking},
    context::Context,
    local_server::LocalServer,
    soak::{figures::Figures, random::SplitMix},
};

/// How long a point may not be come to under load.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often we look.
const POLL: Duration = Duration::from_millis(20);
/// The latest moment of a kill from outside, after the load began.
const LATEST: Duration = Duration::from_millis(2_500);
/// What was acknowledged last is looked for after each kill, all of it once at the end.
const RECENT: usize = 40;
/// Kills of the long form.
const KILLS: u32 = 200;

/// Where one kill is aimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// The server ends itself there, this many times later.
    At(Point, u32),
    /// From outside, after a while.
    AfterAWhile(Duration),
}

/// Kills the server until it was killed often enough; none is left running, whatever comes of it.
pub(crate) async fn run(context: &Context, soaking: Soaking) -> anyhow::Result<Figures> {
    let figures = kill_often(context, soaking).await;
    let stopped = daemon::stop(&StateDir::new(context.state.root())).await;
    let figures = figures?;
    stopped.context("the last server was not stopped")?;
    Ok(figures)
}

async fn kill_often(context: &Context, soaking: Soaking) -> anyhow::Result<Figures> {
    let kills = soaking.kills.unwrap_or(KILLS);
    let mut random = SplitMix(soaking.seed);
    let mut hits = BTreeMap::<&'static str, u32>::new();
    let (mut known, mut killed) = (Acknowledged::default(), Vec::new());
    let began = Instant::now();
    // Once without a kill: the base image, the app, the function.
    let client = serve(context).await?;
    load::prepare(&client, context).await?;
    let scene = Scene::set(&client).await?;
    for kill in 0..kills {
        let aim = aim(kill as usize, &mut random);
        let (place, server) = strike(context, aim, random.next(), &scene, &mut known)
            .await
            .with_context(|| format!("kill {} (seed {}, {aim:?})", kill + 1, soaking.seed))?;
        *hits.entry(place).or_default() += 1;
        killed.push(server);
        check(context, &mut known, &scene, RECENT, &killed)
            .await
            .with_context(|| format!("after kill {} (seed {}, {aim:?})", kill + 1, soaking.seed))?;
        context.printer.note(&format!("{} kills, the last at {place}; {known}", kill + 1));
    }
    check(context, &mut known, &scene, usize::MAX, &killed).await?;
    known.verify_repeats(&serve(context).await?, &scene).await?;
    let by_phase = by_phase(&hits);
    if kills as usize >= ORDER.len() {
        ensure!(by_phase.len() == PHASES, "a phase was never hit: {by_phase:?}");
    }
    let list = |counts: Vec<(String, u32)>| {
        let counts = counts.into_iter().map(|(name, count)| format!("{name} {count}"));
        counts.collect::<Vec<_>>().join(", ")
    };
    let phases = by_phase.iter().map(|(phase, count)| (phase.to_string(), *count)).collect();
    let places = hits.iter().map(|(place, count)| ((*place).to_owned(), *count)).collect();
    let named = json!({
        "kills": kills,
        "seconds": began.elapsed().as_secs(),
        "by_phase": by_phase.iter().map(|(phase, count)| (phase.to_string(), *count)).collect::<BTreeMap<_, _>>(),
        "by_place": hits,
    });
    let words = format!(
        "crash: seed {}, {kills} kills of the server in {} s; inside {}; by place: {}; {known}: all \
         there, every sandbox ended, every call answered, no process, mount, control group or \
         directory left",
        soaking.seed,
        began.elapsed().as_secs(),
        list(phases),
        list(places),
    );
    Figures::new(words, named)
}

/// Phases that must be hit.
const PHASES: usize = 6;
/// The order of the points: all phases come first, so that a short form has them, too. `None` is a
/// kill from outside.
const ORDER: [Option<Point>; 20] = [
    Some(Point::CreateContainer),
    Some(Point::ExecStarted),
    Some(Point::StreamSending),
    Some(Point::VolumePlaced),
    Some(Point::LayerBuilt),
    Some(Point::CallRecorded),
    None,
    Some(Point::OutputWritten),
    Some(Point::CreateRecorded),
    Some(Point::EndUnrecorded),
    None,
    Some(Point::SecretStored),
    Some(Point::ExecStarting),
    Some(Point::VolumeStaged),
    None,
    Some(Point::CallWritten),
    Some(Point::LayerCommitted),
    Some(Point::CreateStarted),
    Some(Point::CallAnswered),
    None,
];
/// What kills from outside are counted as.
const OUTSIDE: &str = "outside";

fn aim(kill: usize, random: &mut SplitMix) -> Aim {
    match ORDER[kill % ORDER.len()] {
        Some(point) => {
            let most = if point.phase() == Phase::Stream { 40 } else { 4 };
            Aim::At(point, 1 + (random.next() % most) as u32)
        }
        None => Aim::AfterAWhile(LATEST.mul_f64((random.next() % 1_000) as f64 / 1_000.0)),
    }
}

fn by_phase(hits: &BTreeMap<&'static str, u32>) -> BTreeMap<Phase, u32> {
    let mut phases = BTreeMap::new();
    for (place, count) in hits {
        if let Ok(point) = place.parse::<Point>() {
            *phases.entry(point.phase()).or_default() += count;
        }
    }
    phases
}

/// The server, started so that it takes orders, and a client of it.
async fn serve(context: &Context) -> anyhow::Result<Client> {
    let note = note(context);
    let note = note.to_str().context("the state directory has an odd name")?;
    LocalServer::of(context).ensure_running_with([(VARIABLE, note)]).await?;
    Ok(backend::client(context).await?.0)
}

/// Where the server says at which point it ended.
fn note(context: &Context) -> PathBuf {
    context.state.root().join("failpoint-reached")
}

/// Loads the server until it is dead, and keeps what was acknowledged until then; answers where it
/// died, and its process id.
async fn strike(
    context: &Context,
    aim: Aim,
    round: u64,
    scene: &Scene,
    known: &mut Acknowledged,
) -> anyhow::Result<(&'static str, i32)> {
    let client = serve(context).await?;
    let server = local::server_process(context).await?.context("no server runs")?;
    if let Aim::At(point, count) = aim {
        daemon::order_end(&StateDir::new(context.state.root()), point, count).await?;
    }
    let load = Load::start(client, scene.clone(), round);
    let place = match aim {
        Aim::At(point, _) => died_at(context, server, point).await,
        Aim::AfterAWhile(delay) => {
            tokio::time::sleep(delay).await;
            let process = rustix::process::Pid::from_raw(server);
            let process = process.context("the server's process id is none")?;
            rustix::process::kill_process(process, rustix::process::Signal::KILL)?;
            Ok(OUTSIDE)
        }
    };
    known.extend(load.stop().await);
    let place = place?;
    leftovers::wait_for_end(server).await?;
    Ok((place, server))
}

/// Waits until the server has died; it must have been at this point.
async fn died_at(context: &Context, server: i32, point: Point) -> anyhow::Result<&'static str> {
    let until = Instant::now() + PATIENCE;
    while leftovers::is_running(server) {
        ensure!(Instant::now() < until, "the server did not come to {}", point.name());
        tokio::time::sleep(POLL).await;
    }
    let place = fs::read_to_string(note(context)).context("the server died elsewhere")?;
    fs::remove_file(note(context))?;
    ensure!(place == point.name(), "it died at {place}, not {}", point.name());
    Ok(point.name())
}

/// A new server over what the killed ones left.
async fn check(
    context: &Context,
    known: &mut Acknowledged,
    scene: &Scene,
    count: usize,
    killed: &[i32],
) -> anyhow::Result<()> {
    let client = serve(context).await?;
    let running = local::running_sandboxes(context).await?;
    ensure!(running == 0, "{running} sandboxes run in a server that made none");
    known.verify(&client, count).await?;
    known.repeat(&client, scene).await?;
    // The first container clears up after the killed server's.
    load::one_sandbox(&client).await?;
    let server = local::server_process(context).await?.context("no server runs")?;
    leftovers::check(context.state.root(), server, killed, &client).await
}
