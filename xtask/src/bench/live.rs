//! Sandboxes that are alive: a command in one beside the same request to the init of a bare container, and 500 at once:
//! the memory that each takes beyond its own processes, and whether commands are still as quick.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use modal_client::{App, BuiltImage, Client, Image, NetworkAccess, Sandbox};

use super::{
    bare::Bare,
    clock::series,
    lifecycle::base_layer,
    memory::{self, Family},
    samples::Samples,
    server::Local,
};
use crate::{
    cmd::selfbench::{Goal, Measurement},
    context::Context,
};

/// How often each side has its turn.
const TURNS: u32 = 5;
/// Sandboxes at once.
const ALIVE: usize = 500;
/// Created and ended at once.
const IN_FLIGHT: usize = 16;
/// Mebibytes that one may take.
const MEMORY_MIB: f64 = 3.0;

pub(crate) async fn measure(context: &Context, time: Duration) -> anyhow::Result<Vec<Measurement>> {
    let server = Local::of(context).await?;
    let ours = Ours::new(&server.client).await?;
    let sandbox = ours.create().await?;
    let bare = Bare::start(base_layer(context)?).await?;
    let container = bare.live("bare-live").await?;
    // About 2 ms each.
    let count = usize::try_from(time.as_millis() / 10 / u128::from(TURNS))?.clamp(20, 2_000);
    let (mut here, mut there) = (Samples::default(), Samples::default());
    for turn in 0..=TURNS {
        let took = [exec_ms(&sandbox, count).await?, container.exec_ms(count).await?];
        // The first turn warms up.
        if turn > 0 {
            here.push(took[0]);
            there.push(took[1]);
        }
    }
    container.end().await?;
    bare.stop().await?;
    let mut rows = vec![Measurement::new(
        "live: exec, beside a request to init",
        here.median(),
        Some(there.median()),
        "ms",
        Goal::AtMost(3.0),
    )];
    context.printer.note(&format!("{ALIVE} sandboxes at once…"));
    rows.extend(crowd(&ours, &server, sandbox, count).await?);
    Ok(rows)
}

/// The figures of many sandboxes beside those of one.
async fn crowd(
    ours: &Ours,
    server: &Local,
    sandbox: Sandbox,
    count: usize,
) -> anyhow::Result<Vec<Measurement>> {
    let family = Family::of(server.process().await?)?;
    let (before, one) = (memory::used(&family)?, exec_ms(&sandbox, count).await?);
    let made: anyhow::Result<Vec<Arc<Sandbox>>> = stream::iter(0..ALIVE)
        .map(|_| async { Ok(Arc::new(ours.create().await?)) })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await;
    let crowd = made?;
    let after = memory::used(&family)?;
    // Not the same one each time: that all are as quick is what is asked.
    let all = Samples::of(
        &stream::iter(0..count)
            .then(|number| {
                let sandbox = Arc::clone(&crowd[number * 7 % crowd.len()]);
                async move { exec_ms(&sandbox, 1).await }
            })
            .try_collect::<Vec<f64>>()
            .await?,
    );
    let still = exec_ms(&sandbox, count).await?;
    end(crowd).await?;
    sandbox.terminate().await?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20) / ALIVE as f64;
    let limit = format!("live: {ALIVE} at once, memory of each beyond its own processes");
    Ok(vec![
        Measurement::limit(&limit, mib(after.saturating_sub(before)), "MiB", MEMORY_MIB),
        Measurement::new(
            &format!("live: exec in one of {ALIVE}, beside in one alone"),
            all.median().max(still),
            Some(one),
            "ms",
            Goal::AtMost(2.0),
        ),
    ])
}

async fn end(crowd: Vec<Arc<Sandbox>>) -> anyhow::Result<()> {
    let ends = stream::iter(crowd).map(|sandbox| async move { sandbox.terminate().await });
    Ok(ends.buffer_unordered(IN_FLIGHT).try_collect::<()>().await?)
}

/// The median of commands, one after the other.
async fn exec_ms(sandbox: &Sandbox, count: usize) -> anyhow::Result<f64> {
    let exec = |_| async {
        let code = sandbox.exec(["true"]).start().await?.wait().await?;
        ensure!(code == 0, "`true` ended with {code}");
        Ok(())
    };
    Ok(1e3 * series(count, 1, exec).await?.median.as_secs_f64())
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

    async fn create(&self) -> anyhow::Result<Sandbox> {
        let sandbox = self.client.sandbox(&self.app, &self.image).command(["sleep", "3000"]);
        let sandbox = sandbox.network(NetworkAccess::Blocked).timeout(Duration::from_secs(3_600));
        Ok(sandbox.create().await?)
    }
}
