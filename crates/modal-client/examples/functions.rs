//! Functions: deploying a web server without any Python of one's own, and a Python function that is called.
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example functions
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use futures::TryStreamExt as _;
use modal_client::{
    Arguments, Autoscaling, Client, Config, Environ, Error, FunctionSpec, Image, Retries, Web,
};

const SOURCE: &str = "
def square(x, y=0):
    return x * x + y


def count(limit):
    yield from range(limit)


def fail(text):
    raise ValueError(text)
";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(Config::from_env_and_file(&Environ::of_process())?).await?;
    let image = Image::debian_slim().python("3.11");
    let files =
        FunctionSpec::server("files", ["python", "-m", "http.server", "8000"], 8000, &image)
            .web(Web::server(8000).startup_timeout(Duration::from_secs(60)))
            .autoscaling(Autoscaling::default().max(1).scaledown_window(Duration::from_secs(60)))
            .concurrent_inputs(10);
    let square =
        FunctionSpec::from_source("example", SOURCE, "square", &image).retries(Retries::new(2));
    let count = FunctionSpec::from_source("example", SOURCE, "count", &image).generator();
    let fail = FunctionSpec::from_source("example", SOURCE, "fail", &image);
    let deployed = client
        .deploy("example-functions")
        .version_tag("v1")
        .function(files)
        .function(square)
        .function(count)
        .function(fail)
        .await?;
    println!("{} at {}", deployed.app.name, deployed.url);
    println!("files at {}", deployed.functions["files"].web_url().context("an address")?);

    let square = client.function("example-functions", "square").await?;
    ensure!(square.call::<i64>((7,)).await? == 49);
    let named = Arguments { positional: (7,), named: BTreeMap::from([("y", 1)]) };
    ensure!(square.call::<i64>(named).await? == 50);
    let call = square.spawn((3,)).await?;
    ensure!(call.get_within::<i64>(Duration::from_secs(60)).await? == 9);
    let squares = square.map((0..20_i64).map(|n| (n,))).outputs::<i64>().await?;
    ensure!(squares == (0..20).map(|n| n * n).collect::<Vec<i64>>());

    let numbers = deployed.functions["count"].generate::<i64>((500,)).await?;
    ensure!(numbers.try_collect::<Vec<_>>().await? == (0..500).collect::<Vec<i64>>());
    match deployed.functions["count"].call::<()>((1,)).await {
        Err(Error::Invalid { .. }) => println!("a generator has no single answer"),
        other => anyhow::bail!("{other:?}"),
    }

    match deployed.functions["fail"].call::<()>(("on purpose",)).await {
        Err(Error::FunctionFailed { message, .. }) => println!("as it should be: {message}"),
        other => anyhow::bail!("{other:?}"),
    }
    println!("{:?}", square.stats().await?);
    println!("{} containers", client.containers().list(Some(&deployed.app.id)).await?.len());
    ensure!(client.apps().history(&deployed.app.id).await?.len() == 1);
    client.apps().stop(&deployed.app.id).await?;
    Ok(())
}
