//! Sandboxes: commands with input and output, finding a running command again, logs, ends.
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example sandboxes
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use modal_client::{Client, Config, Environ, ExitReason, Image, NetworkAccess, Pty, Sandbox};
use tokio::io::AsyncWriteExt as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(Config::from_env_and_file(&Environ::of_process())?).await?;
    let app = client.app("example-sandboxes").create_if_missing().await?;
    let image = client.build(&Image::from_registry("debian:bookworm-slim"), &app).await?;

    let sandbox = client
        .sandbox(&app, &image)
        .command(["sh", "-c", "echo started; cat; echo over"])
        .network(NetworkAccess::Blocked)
        .timeout(Duration::from_secs(120))
        .tag("kind", "example")
        .terminate_on_drop(true)
        .await?;
    println!("{} of version {:?}", sandbox.id(), sandbox.version());
    commands(&sandbox).await?;
    again(&client, &sandbox).await?;

    sandbox.stdin().finish("typed\n").await?;
    let exit = sandbox.wait().await?;
    ensure!(exit.reason == ExitReason::Success && exit.code == 0, "{exit:?}");
    ensure!(sandbox.stdout().read_text().await? == "started\ntyped\nover\n");

    // Dropping the last handle ends this one, since it was created so.
    let sleeping = client.sandbox(&app, &image).command(["sleep", "100"]);
    let sleeping = sleeping.terminate_on_drop(true).await?;
    let id = sleeping.id().clone();
    drop(sleeping);
    let exit = client.sandboxes().from_id(&id).await?.wait().await?;
    ensure!(exit.reason == ExitReason::Terminated, "{exit:?}");
    client.apps().stop(&app.id).await?;
    Ok(())
}

async fn commands(sandbox: &Sandbox) -> anyhow::Result<()> {
    let output = sandbox.exec(["sh", "-c", "echo $WHO; exit 3"]).env("WHO", "me").output().await?;
    ensure!((output.code, output.stdout.as_slice()) == (3, &b"me\n"[..]), "{output:?}");

    // Output while it comes, and input beside it.
    let mut process = sandbox.exec(["sh", "-c", "while read l; do echo got $l; done"]).await?;
    let mut stdin = process.take_stdin().context("the input of a new command")?;
    let mut stdout = process.stdout();
    stdin.write_all(b"one\n").await?;
    stdin.flush().await?;
    let first = stdout.next().await.context("an answer")??;
    ensure!(first == "got one\n", "{first:?}");
    stdin.write_all(b"two\n").await?;
    stdin.shutdown().await?;
    ensure!(stdout.read_text().await? == "got two\n");
    ensure!(process.wait().await? == 0);

    let terminal = Pty { rows: 24, columns: 80, term: "xterm".to_owned() };
    let process = sandbox.exec(["tty"]).pty(terminal).await?;
    let shown = process.stdout().read_text().await?;
    ensure!(process.wait().await? == 0 && shown.starts_with("/dev/pts/"), "{shown}");
    Ok(())
}

/// Finds the sandbox and a command in it by their ids, as another program would.
async fn again(client: &Client, sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut process = sandbox.exec(["sh", "-c", "echo 0123456789; read l; echo $l"]).await?;
    let mut stdin = process.take_stdin().context("the input of a new command")?;
    stdin.write_all(b"half ").await?;
    stdin.flush().await?;

    let found = client.sandboxes().from_id(sandbox.id()).await?;
    let same = found.process(process.id());
    ensure!(same.poll().await?.is_none());
    let mut stdin = same.resume_stdin().await?;
    stdin.write_all(b"and half\n").await?;
    stdin.shutdown().await?;
    ensure!(same.stdout_from(5).read_text().await? == "56789\nhalf and half\n");
    ensure!(same.wait().await? == 0);
    Ok(())
}
