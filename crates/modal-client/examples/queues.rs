//! Queues: values that programs hand to each other.
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example queues
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::time::Duration;

use anyhow::ensure;
use modal_client::{Client, Config, Environ};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(Config::from_env_and_file(&Environ::of_process())?).await?;
    let name = format!("example-queue-{}", std::process::id());
    let queue = client.queue(&name).create().await?;

    queue.put(&"first").await?;
    queue.put_many(["second", "third"]).await?;
    ensure!(queue.len().await? == 3);
    ensure!(queue.peek::<String>().await? == ["first", "second", "third"]);
    let limit = Duration::from_secs(10);
    ensure!(queue.get::<String>(limit).await?.as_deref() == Some("first"));
    ensure!(queue.get_many::<String>(10, limit).await? == ["second", "third"]);
    ensure!(queue.get::<String>(Duration::ZERO).await?.is_none());

    // A partition is a queue of its own; who waits in one gets what comes into it.
    let work = queue.partition("work");
    let (taken, put) = tokio::join!(work.get::<u32>(limit), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        work.put(&7_u32).await
    });
    put?;
    println!("took {:?}", taken?);
    ensure!(queue.total_len().await? == 0);

    ensure!(client.queues().list().await?.iter().any(|found| found.name == name));
    queue.delete().await?;

    let scratch = client.ephemeral_queue().await?;
    scratch.put(&vec![1.5]).await?;
    ensure!(scratch.get::<Vec<f64>>(limit).await? == Some(vec![1.5]));
    Ok(())
}
