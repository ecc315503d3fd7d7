//! Dicts: values that programs share, and leases that one of many takes.
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example dicts
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::collections::BTreeMap;

use anyhow::ensure;
use futures::{TryStreamExt as _, future::join_all};
use modal_client::{Client, Config, Environ};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(Config::from_env_and_file(&Environ::of_process())?).await?;
    let name = format!("example-dict-{}", std::process::id());
    let dict = client.dict(&name).create().await?;

    dict.put("answer", &42).await?;
    dict.update([("a", vec![1.5, 2.5]), ("b", Vec::new())]).await?;
    ensure!(dict.get::<i64>("answer").await? == Some(42));
    ensure!(dict.get::<Vec<f64>>("a").await? == Some(vec![1.5, 2.5]));
    ensure!(dict.get::<i64>("nothing").await?.is_none());
    ensure!(dict.contains("b").await? && dict.len().await? == 3);
    ensure!(dict.pop::<i64>("answer").await? == Some(42) && !dict.contains("answer").await?);

    let items: BTreeMap<String, Vec<f64>> = dict.items().try_collect().await?;
    println!("{items:?}");
    ensure!(items.len() == 2);

    // Of many who want the lease, one gets it.
    let asking = (0..8).map(|worker| {
        let dict = dict.clone();
        async move { dict.put_if_absent("lease", &worker).await }
    });
    let taken: Vec<bool> = join_all(asking).await.into_iter().collect::<Result<_, _>>()?;
    ensure!(taken.iter().filter(|&&taken| taken).count() == 1, "{taken:?}");
    println!("worker {:?} has the lease", dict.pop::<u32>("lease").await?);

    ensure!(client.dicts().list().await?.iter().any(|found| found.name == name));
    dict.clear().await?;
    ensure!(dict.is_empty().await?);
    dict.delete().await?;

    let scratch = client.ephemeral_dict().await?;
    scratch.put("k", &"v").await?;
    ensure!(scratch.get::<String>("k").await?.as_deref() == Some("v"));
    Ok(())
}
