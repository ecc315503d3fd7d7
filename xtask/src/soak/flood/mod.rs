//! `soak flood`: numbered requests through the proxy while what is behind it is killed and started again.
//!
//! The containers of the deployed services as processes of this machine, by the plans that are deployed: LiteLLM from
//! PyPI with spool and door, `langfuse-local` over PostgreSQL with its own. What is killed gets a new container, with
//! an empty disk, where the container would be lost; volumes stay. Every request must be answered with its own number,
//! and every trace be there once, or the loss be told.

mod container;
mod load;
mod scene;
mod verify;

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::json;

use self::{
    load::{Answers, Gate, Load},
    scene::Scene,
    verify::Traces,
};
use crate::{
    cmd::soak::Soaking,
    context::Context,
    soak::{figures::Figures, random::SplitMix},
};

/// Requests of the long form.
const REQUESTS: u64 = 2_000;
/// With fewer, leases end sooner and nothing is killed twice, so that a short form is short.
const LONG: u64 = 1_000;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    /// Langfuse's server. Its container ends, a new one follows.
    Langfuse,
    /// PostgreSQL, all of it. Its container ends, a new one follows.
    Postgres,
    /// The supervisor of the proxy: door and spool, and LiteLLM with it. The container is lost.
    Proxy,
    /// The supervisor of Langfuse and its database. The container is lost.
    Database,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Langfuse => "langfuse",
            Self::Postgres => "postgres",
            Self::Proxy => "the proxy's supervisor",
            Self::Database => "the database's supervisor",
        })
    }
}

/// The order of kills; when each comes is the seed's choice.
const KILLS: [Kill; 5] =
    [Kill::Langfuse, Kill::Postgres, Kill::Proxy, Kill::Langfuse, Kill::Database];
/// In the short form.
const SHORT: [Kill; 4] = [Kill::Langfuse, Kill::Postgres, Kill::Proxy, Kill::Database];

/// Sends all requests, kills, and counts.
pub(crate) async fn run(context: &Context, soaking: Soaking) -> anyhow::Result<Figures> {
    let requests = soaking.requests.unwrap_or(REQUESTS);
    let began = Instant::now();
    let mut scene = Scene::start(context, requests >= LONG).await?;
    context.printer.note(&format!("all is up after {} s", began.elapsed().as_secs()));
    let flooded = flood(context, &mut scene, requests, soaking.seed).await;
    if let Err(error) = flooded {
        let words = scene.last_words();
        return Err(error.context(format!("{words}\nmore in {}", scene.keep().display())));
    }
    scene.stop().await?;
    flooded
}

async fn flood(
    context: &Context,
    scene: &mut Scene,
    requests: u64,
    seed: u64,
) -> anyhow::Result<Figures> {
    let (mut random, began, gate) = (SplitMix(seed), Instant::now(), Gate::default());
    let load = Load::start(scene, requests, seed, gate.clone())?;
    kills(context, scene, &gate, requests, &mut random).await?;
    gate.open(requests);
    let answers = load.finish().await?;
    let seconds = began.elapsed().as_secs();
    let traces = verify::settled(scene, requests, seed).await?;
    let words = words(seed, seconds, &answers, &traces);
    verify::judge(requests, &answers, &traces).with_context(|| words.clone())?;
    let named = json!({
        "requests": requests,
        "in_flight": load::PARALLEL,
        "seconds": seconds,
        "killed": order(requests).iter().map(ToString::to_string).collect::<Vec<_>>(),
        "answered": { "right": answers.right, "wrong": answers.wrong, "again": answers.again },
        "traces": traces,
    });
    Figures::new(words, named)
}

fn order(requests: u64) -> &'static [Kill] {
    if requests >= LONG { &KILLS } else { &SHORT }
}

/// Kills one after the other, each under load: half of the requests up to the next may go on while it is away.
async fn kills(
    context: &Context,
    scene: &mut Scene,
    gate: &Gate,
    requests: u64,
    random: &mut SplitMix,
) -> anyhow::Result<()> {
    let kills = order(requests);
    let share = requests / (kills.len() as u64 + 1);
    for (index, kill) in (1..).zip(kills.iter().copied()) {
        // In the first half of its share.
        let at = index * share - share / 2 + random.next() % (share / 2).max(1);
        gate.open(at + share / 2);
        gate.answered(at).await;
        let began = Instant::now();
        scene.kill(kill).await.with_context(|| format!("{kill} was to be killed"))?;
        let seconds = began.elapsed().as_secs_f64();
        context.printer.note(&format!(
            "{kill} was killed after {at} answers and is back after {seconds:.1} s"
        ));
    }
    Ok(())
}

fn words(seed: u64, seconds: u64, answers: &Answers, traces: &Traces) -> String {
    let Answers { right, wrong, again } = answers;
    let kills: Vec<String> = order(right + wrong).iter().map(ToString::to_string).collect();
    format!(
        "flood: seed {seed}, {} requests, {} in flight, {seconds} s; killed: {}; answered with their own number \
         {right}, with another {wrong}, asked again {again}; {traces}",
        right + wrong,
        load::PARALLEL,
        kills.join(", "),
    )
}

/// Longest wait for anything that is to come back.
const PATIENCE: Duration = Duration::from_secs(180);
