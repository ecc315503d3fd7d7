//! Logs: the last entries, what contains a word, and following while a sandbox prints; and an RPC by its generated stub.
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example logs
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use anyhow::ensure;
use futures::StreamExt as _;
use modal_client::{Client, Config, Environ, Image, LogSource, proto::client as api};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(Config::from_env_and_file(&Environ::of_process())?).await?;
    let app = client.app("example-logs").create_if_missing().await?;
    let image = client.build(&Image::from_registry("debian:bookworm-slim"), &app).await?;
    let script = "for i in 1 2 3; do echo tick $i; done; echo tock >&2; read end";
    let sandbox = client.sandbox(&app, &image).command(["sh", "-c", script]);
    let sandbox = sandbox.terminate_on_drop(true).await?;

    // Everything of the sandbox as it comes. The stream ends with its app: this leaves earlier.
    let mut entries = sandbox.logs().await?.follow();
    let mut seen = String::new();
    while !(seen.contains("tick 3") && seen.contains("tock")) {
        let Some(entry) = entries.next().await else { anyhow::bail!("it ended: {seen}") };
        seen.push_str(&entry?.text);
    }

    // Filters first, then how many of the newest.
    let ticks = client.logs(&app.id).source(LogSource::Stdout).search("tick 2").tail(10).await?;
    ensure!(ticks.last().is_some_and(|entry| entry.text.contains("tick 2")), "{ticks:?}");
    let errors = sandbox.logs().await?.source(LogSource::Stderr).tail(10).await?;
    for entry in &errors {
        println!("{:?} of {:?}: {}", entry.source, entry.container, entry.text.trim_end());
    }
    ensure!(errors.len() == 1 && errors[0].text == "tock\n", "{errors:?}");

    // What the client has no method for; an RPC without parameters takes `()`.
    let answer = client.raw().client_hello(()).await?.into_inner();
    println!("the server builds images with builder {}", answer.image_builder_version);
    let query = api::AppGetLayoutRequest { app_id: app.id.to_string() };
    let layout = client.raw().app_get_layout(query).await?.into_inner();
    println!("functions: {:?}", layout.app_layout.map(|layout| layout.function_ids));
    client.apps().stop(&app.id).await?;
    Ok(())
}
