//! create → exec `true` → terminate, beside (a) the bare cost of the same isolation without a
//! server, (b) the official Python SDK on the same server, (c) bubblewrap.

use std::time::Duration;

use anyhow::Context as _;
use modal_client::{App, BuiltImage, Client, Image, NetworkAccess};

use super::{
    bubblewrap,
    clock::{Series, cpu, series},
    python,
};
use crate::{
    backend,
    cmd::selfbench::{Goal, Measurement},
    context::Context,
};

/// At once, where many are in flight.
const IN_FLIGHT: usize = 64;

/// What one run of ours gave.
struct Ours {
    alone: Series,
    together: Series,
    /// Seconds of CPU of this process a cycle.
    cpu: f64,
}

pub(crate) async fn measure(context: &Context, time: Duration) -> anyhow::Result<Vec<Measurement>> {
    let (client, server) = backend::client(context).await?;
    let Some(server) = server else {
        anyhow::bail!("this benchmark measures the local server: add --target local");
    };
    client.environments().get_or_create(&context.environment).await?;
    let app = client.app("selfbench").create_if_missing().await?;
    let image = client.build(&Image::debian_slim().python("3.11"), &app).await?;
    // About 10 ms a cycle alone, 5 together: enough cycles to fill the time on a slow machine too.
    let alone = usize::try_from(time.as_millis() / 40)?.clamp(20, 2_000);
    let together = (alone * 2).max(2 * IN_FLIGHT);

    context.printer.note("ours…");
    let ours = ours(&client, &app, &image, alone, together).await?;
    let mut measurements = bare(context, &ours, alone, together).await?;
    context.printer.note("the Python SDK…");
    let variables = [
        ("MODAL_SERVER_URL", server.url.to_string()),
        ("MODAL_TOKEN_ID", server.token_id.to_string()),
        ("MODAL_TOKEN_SECRET", server.token_secret.expose().to_owned()),
        ("MODAL_ENVIRONMENT", context.environment.clone()),
    ];
    measurements.extend(sdk(context, &ours, &variables, alone / 4, together / 4).await?);
    Ok(measurements)
}

async fn ours(
    client: &Client,
    app: &App,
    image: &BuiltImage,
    alone: usize,
    together: usize,
) -> anyhow::Result<Ours> {
    let run = |count, in_flight| series(count, in_flight, |_| cycle(client, app, image));
    run(5, 1).await?;
    let before = cpu()?;
    let one = run(alone, 1).await?;
    let many = run(together, IN_FLIGHT).await?;
    let cpu = (cpu()? - before).as_secs_f64() / (alone + together) as f64;
    Ok(Ours { alone: one, together: many, cpu })
}

async fn cycle(client: &Client, app: &App, image: &BuiltImage) -> anyhow::Result<()> {
    let sandbox = client
        .sandbox(app, image)
        .command(["sleep", "300"])
        .network(NetworkAccess::Blocked)
        .create()
        .await?;
    let code = sandbox.exec(["true"]).start().await?.wait().await?;
    anyhow::ensure!(code == 0, "`true` ended with {code}");
    sandbox.terminate().await?;
    Ok(())
}

#[cfg(target_os = "linux")]
async fn bare(
    context: &Context,
    ours: &Ours,
    alone: usize,
    together: usize,
) -> anyhow::Result<Vec<Measurement>> {
    let layer = base_layer(context)?;
    context.printer.note("the same isolation without a server…");
    let bare = super::bare::Bare::start(layer.clone()).await?;
    bare.measure(5, 1).await?;
    let (one, many) = (bare.measure(alone, 1).await?, bare.measure(together, IN_FLIGHT).await?);
    bare.stop().await?;
    let goal = Goal::AtMost(3.0);
    let mut measurements = vec![
        figure(
            "one at a time, median, beside the bare isolation",
            ours.alone.median,
            Some(one.median),
            goal,
        ),
        figure(
            "64 in flight, each, beside the bare isolation",
            ours.together.each,
            Some(many.each),
            goal,
        ),
    ];
    let (mut wrapped, mut many_wrapped) = (None, None);
    if bubblewrap::is_here().await {
        context.printer.note("bubblewrap…");
        wrapped = Some(bubblewrap::measure(&layer, alone, 1).await?.median);
        many_wrapped = Some(bubblewrap::measure(&layer, together, IN_FLIGHT).await?.each);
    } else {
        context
            .printer
            .warn("bubblewrap is not here (Debian: apt-get install bubblewrap): not measured");
    }
    let goal = Goal::AtMost(3.0);
    measurements.push(figure(
        "one at a time, median, beside bubblewrap",
        ours.alone.median,
        wrapped,
        goal,
    ));
    measurements.push(figure(
        "64 in flight, each, beside bubblewrap",
        ours.together.each,
        many_wrapped,
        goal,
    ));
    Ok(measurements)
}

#[cfg(not(target_os = "linux"))]
async fn bare(_: &Context, _: &Ours, _: usize, _: usize) -> anyhow::Result<Vec<Measurement>> {
    anyhow::bail!("the bare isolation needs Linux")
}

/// The base that the image above was made of: the one layer that holds a whole system.
#[cfg(target_os = "linux")]
fn base_layer(context: &Context) -> anyhow::Result<std::path::PathBuf> {
    let layers = context.state.root().join("images/layers");
    let entries = std::fs::read_dir(&layers)
        .with_context(|| format!("can't look for a base in `{}`", layers.display()))?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.join("usr/bin/true").exists())
        .with_context(|| format!("no base in `{}`", layers.display()))
}

async fn sdk(
    context: &Context,
    ours: &Ours,
    server: &[(&'static str, String)],
    alone: usize,
    together: usize,
) -> anyhow::Result<Vec<Measurement>> {
    let python = python::interpreter(&context.workspace).await?;
    let script = context.workspace.path("fixtures/bench/sandbox_lifecycle.py");
    let one = python::measure(&python, &script, server, alone.max(5), 1).await?;
    let many =
        python::measure(&python, &script, server, together.max(IN_FLIGHT), IN_FLIGHT).await?;
    let cpu = (one.cpu_s + many.cpu_s) / (one.cycles + many.cycles) as f64;
    let median = Duration::try_from_secs_f64(one.median_s)?;
    Ok(vec![
        figure(
            "one at a time, median, beside the Python SDK",
            ours.alone.median,
            Some(median),
            Goal::AtMost(1.0),
        ),
        Measurement::new(
            "sandbox-lifecycle: CPU of the client a cycle, beside the Python SDK",
            1_000.0 * ours.cpu,
            Some(1_000.0 * cpu),
            "ms",
            Goal::AtMost(0.2),
        ),
    ])
}

fn figure(what: &str, ours: Duration, peer: Option<Duration>, goal: Goal) -> Measurement {
    let ms = |time: Duration| 1_000.0 * time.as_secs_f64();
    Measurement::new(&format!("sandbox-lifecycle: {what}"), ms(ours), peer.map(ms), "ms", goal)
}
