//! The local server killed by SIGKILL at seeded moments under load: what it acknowledged is there
//! afterwards, every sandbox has an end, and nothing of what ran is left on this machine.
//!
//! Each kill is aimed at one [`Phase`]: it waits until a call of that kind is under way, and then a
//! seeded while. Whether it fell inside is counted, and each phase must be hit.

mod leftovers;
mod load;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use self::load::{Acknowledged, Load, Phase};
use crate::{
    backend,
    cmd::{local, soak::Soaking},
    context::Context,
    soak::random::SplitMix,
};

/// How long a call of the phase aimed at may be waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The latest moment of a kill after a call of its phase began: most are over by then.
const LATEST: Duration = Duration::from_millis(40);
/// What was acknowledged last is looked for after each kill, all of it once at the end.
const RECENT: usize = 60;
/// Kills of the long form.
const KILLS: u32 = 200;

/// Kills the server until it was killed often enough.
pub(crate) async fn run(context: &Context, soaking: Soaking) -> anyhow::Result<String> {
    let kills = soaking.kills.unwrap_or(KILLS);
    let mut random = SplitMix(soaking.seed);
    let mut inside = [0_u32; Phase::ALL.len()];
    let mut known = Acknowledged::default();
    let began = Instant::now();
    // Once without a kill: the base image and the app.
    load::prepare(context).await?;
    for kill in 0..kills {
        let aim = kill as usize % Phase::ALL.len();
        let hit = strike(context, Phase::ALL[aim], &mut random, &mut known).await?;
        inside[aim] += u32::from(hit);
        check(context, &known, RECENT).await.with_context(|| {
            format!("after kill {} (seed {}, aimed at {})", kill + 1, soaking.seed, Phase::ALL[aim])
        })?;
        context.printer.note(&format!("{} kills, {known}", kill + 1));
    }
    check(context, &known, usize::MAX).await?;
    let aimed: Vec<String> =
        Phase::ALL.iter().zip(inside).map(|(phase, hits)| format!("{phase} {hits}")).collect();
    if kills as usize >= Phase::ALL.len() {
        ensure!(inside.iter().all(|hits| *hits > 0), "a phase was never hit: {}", aimed.join(", "));
    }
    Ok(format!(
        "crash: seed {}, {kills} kills of the server in {} s, inside: {}; {known}: all there, every \
         sandbox ended, no process, mount, control group or directory left",
        soaking.seed,
        began.elapsed().as_secs(),
        aimed.join(", ")
    ))
}

/// Loads the server, kills it in a phase, and keeps what was acknowledged until then. Whether the
/// kill fell inside the phase.
async fn strike(
    context: &Context,
    phase: Phase,
    random: &mut SplitMix,
    known: &mut Acknowledged,
) -> anyhow::Result<bool> {
    let (client, _) = backend::client(context).await?;
    let server = local::server_process(context).await?.context("no server runs")?;
    let load = Load::start(client, random.next());
    let delay = LATEST.mul_f64((random.next() % 1_000) as f64 / 1_000.0);
    let aimed = tokio::time::timeout(PATIENCE, load.wait_for(phase, delay)).await;
    let hit = match aimed {
        Ok(()) => load.is_inside(phase),
        Err(_) => false,
    };
    let killed =
        rustix::process::Pid::from_raw(server).context("the server's process id is none")?;
    rustix::process::kill_process(killed, rustix::process::Signal::KILL)?;
    known.extend(load.stop().await);
    leftovers::wait_for_end(server).await?;
    aimed.map(|()| hit).with_context(|| format!("nothing of {phase} was under way"))
}

/// A new server over what the killed one left.
async fn check(context: &Context, known: &Acknowledged, count: usize) -> anyhow::Result<()> {
    let (client, _) = backend::client(context).await?;
    let running = local::running_sandboxes(context).await?;
    ensure!(running == 0, "{running} sandboxes run in a server that made none");
    known.verify(&client, count).await?;
    // The first container clears up after the killed server's.
    load::one_sandbox(&client).await?;
    let server = local::server_process(context).await?.context("no server runs")?;
    leftovers::check(context.state.root(), server).await
}
