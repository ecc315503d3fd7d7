//! A tour of the client against whatever server `MODAL_SERVER_URL` names, cleaning up behind itself:
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example tour
//! ```
//!
//! It fails at the first thing that is not as it should be.

#![allow(clippy::print_stdout, reason = "an example talks to a person")]
#![allow(clippy::unwrap_used, reason = "an example of what works")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use modal_client::{
    Client, Config, Environ, Error, ExitReason, IfExists, Image, MiB, NetworkAccess, Redirect,
    Sandbox, Secret, VolumeMount,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let environ = Environ::from_pairs(std::env::vars());
    let client = Client::connect(Config::from_env_and_file(&environ)?).await?;
    client.verify().await?;
    println!("connected to {}", client.server_url());
    let name = format!("tour-{}", std::process::id());
    let client = environment(&client, &name).await?;
    let toured = tour(&client).await;
    client.environments().delete(&name).await?;
    toured
}

async fn environment(client: &Client, name: &str) -> anyhow::Result<Client> {
    client.environments().create(name).await?;
    let again = client.environments().create(name).await.unwrap_err();
    ensure!(again.is_already_exists(), "{again:?}");
    ensure!(client.environments().list().await?.iter().any(|found| found.name == name));
    println!("environment {name}");
    Ok(client.with_environment(name))
}

async fn tour(client: &Client) -> anyhow::Result<()> {
    let secret = secrets(client).await.context("secrets")?;
    let volume = volumes(client).await.context("volumes")?;
    let app = client.app("tour").create_if_missing().await?;
    ensure!(client.app("nothing").await.unwrap_err().is_not_found());
    ensure!(client.apps().list().await?.iter().any(|found| found.id == app.id));
    let image = image(client, &app).await.context("image")?;
    let sandbox = client
        .sandbox(&app, &image)
        .command(["sh", "-c", "echo started; cat; sleep 100"])
        .env("PLAIN", "p")
        .secret(&secret)
        .secret(&Secret::from_map([("INLINE", "i")]))
        .volume("/data", VolumeMount::new(&volume))
        .volume("/read-only", VolumeMount::new(&volume).sub_path("tree").read_only(true))
        .mount_local_file("/etc/hostname", "/opt/host")
        .workdir("/tmp")
        .cpu(0.5, Some(1.0))
        .memory(MiB(128), Some(MiB(512)))
        .network(NetworkAccess::Blocked)
        .name("tour")
        .tag("kind", "tour")
        .create()
        .await?;
    println!("sandbox {}", sandbox.id());
    let used = used(client, &sandbox).await;
    let ended = sandbox.terminate_and_wait().await?;
    used?;
    ensure!(ended.reason == ExitReason::Terminated && ended.code == 137, "{ended:?}");
    ensure!(sandbox.stdout().read_text().await? == "started\ntyped\n");
    let gone = sandbox.exec(["true"]).await.unwrap_err();
    ensure!(gone.is_sandbox_gone(), "{gone:?}");
    println!("after the end: {gone}");
    ensure!(volume.read("from-sandbox").bytes().await? == "written\n");
    exits(client, &app, &image).await.context("exits")?;
    client.apps().stop(&app.id).await?;
    volume.delete().await?;
    Ok(())
}

async fn secrets(client: &Client) -> anyhow::Result<Secret> {
    let secrets = client.secrets();
    let secret = secrets.create("tour", [("STORED", "s")], IfExists::Fail).await?;
    let again = secrets.create("tour", [("STORED", "x")], IfExists::Fail).await.unwrap_err();
    ensure!(again.is_already_exists(), "{again:?}");
    ensure!(secrets.get("tour").await?.id() == secret.id());
    ensure!(secrets.get("nothing").await.unwrap_err().is_not_found());
    let missing = secrets.get_with_keys("tour", &["OTHER"]).await.unwrap_err();
    ensure!(missing.is_conflict(), "{missing:?}");
    secrets.update(secret.id().context("no id")?, [("ADDED", Some("a".into()))]).await?;
    ensure!(secrets.list().await?.iter().any(|found| found.name == "tour"));
    println!("secrets");
    Ok(secret)
}

async fn volumes(client: &Client) -> anyhow::Result<modal_client::Volume> {
    let volume = client.volume("tour").create_if_missing().await?;
    let big: Vec<u8> = (0..20_000_000_u32).map(|n| (n / 1000) as u8).collect();
    let zeros = vec![0; 9_000_000];
    let upload = || {
        let upload = volume.upload().bytes(big.clone(), "/tree/big").bytes(zeros.clone(), "/zeros");
        upload.bytes("", "/empty").tree(concat!(env!("CARGO_MANIFEST_DIR"), "/src"), "/tree/src")
    };
    let first = upload().await?;
    let again = upload().await.unwrap_err();
    ensure!(again.is_already_exists(), "{again:?}");
    let second = upload().overwrite(true).await?;
    ensure!(first.blocks_sent > 3 && second.blocks_sent == 0, "{first:?} {second:?}");
    ensure!(volume.read("tree/big").bytes().await? == big, "the big file differs");
    ensure!(volume.read("zeros").bytes().await? == zeros, "the zeros differ");
    ensure!(volume.read("empty").bytes().await?.is_empty());
    let range = volume.read("tree/big").range(8_388_600..8_388_700).bytes().await?;
    ensure!(range == big[8_388_600..8_388_700], "the range differs");
    let listed = volume.list("/").await?;
    ensure!(listed.iter().any(|entry| entry.path == "tree"), "{listed:?}");
    ensure!(
        volume.list("/").recursive(true).await?.iter().any(|entry| entry.path == "tree/src/lib.rs")
    );
    volume.copy(["empty"], "copied", false).await?;
    volume.remove("copied").await?;
    volume.remove("tree/src").recursive(true).await?;
    ensure!(volume.read("nothing").await.unwrap_err().is_not_found());
    ensure!(client.volumes().list().await?.iter().any(|found| found.name == "tour"));
    println!("volumes: {first:?}");
    Ok(volume)
}

async fn image(
    client: &Client,
    app: &modal_client::App,
) -> anyhow::Result<modal_client::BuiltImage> {
    let image = Image::debian_slim()
        .copy_local_file("Cargo.toml", "/opt/Cargo.toml")
        .run_commands(["echo building", "test -f /opt/Cargo.toml"])
        .env([("FROM_IMAGE", "y")])
        .workdir("/opt");
    let started = Instant::now();
    let built = client.build(&image, app).on_log(|text| print!("  {text}")).await?;
    println!("image {} in {:?}", built.id, started.elapsed());
    ensure!(client.build(&image, app).await? == built, "the second build is another image");
    ensure!(client.build(&Image::from_id(built.id.clone()), app).await?.id == built.id);
    let broken =
        client.build(&image.run_commands(["echo so it failed; exit 3"]), app).await.unwrap_err();
    ensure!(
        matches!(&broken, Error::BuildFailed { output, .. } if output.contains("so it failed")),
        "{broken:?}"
    );
    println!("a broken build: {broken}");
    Ok(built)
}

async fn used(client: &Client, sandbox: &Sandbox) -> anyhow::Result<()> {
    sandbox.stdin().finish("typed\n").await?;
    ensure!(sandbox.poll().await?.is_none());
    ensure!(sandbox.tags().await?["kind"] == "tour");
    sandbox.set_tags([("kind", "other")]).await?;
    let sandboxes = client.sandboxes();
    ensure!(sandboxes.list().tag("kind", "tour").await?.is_empty());
    ensure!(
        sandboxes.list().tag("kind", "other").await?.iter().any(|found| found.id == *sandbox.id())
    );
    ensure!(sandboxes.from_name("tour", "tour").await?.id() == sandbox.id());
    let found = sandboxes.from_id(sandbox.id()).await?;
    commands(&found).await.context("commands")?;
    files(sandbox).await.context("files")?;
    Ok(())
}

async fn commands(sandbox: &Sandbox) -> anyhow::Result<()> {
    let script = "echo $PLAIN$INLINE$STORED$FROM_IMAGE$MORE; pwd; cat; echo err >&2; exit 3";
    let mut process = sandbox.exec(["sh", "-c", script]).env("MORE", "m").start().await?;
    let mut stdin = process.take_stdin().context("no stdin")?;
    stdin.write_all(b"in\n").await?;
    stdin.shutdown().await?;
    let output = process.output().await?;
    ensure!(output.stdout == b"pisym\n/tmp\nin\n", "{:?}", String::from_utf8_lossy(&output.stdout));
    ensure!(output.stderr == b"err\n" && output.code == 3, "{output:?}");
    ensure!(process.stdout_from(4).read_text().await? == "m\n/tmp\nin\n");
    let many =
        sandbox.exec(["sh", "-c", "head -c 30000000 /dev/zero | tr '\\0' x"]).start().await?;
    let (mut length, mut buffer, mut stdout) = (0, vec![0; 1 << 16], many.stdout());
    loop {
        match stdout.read(&mut buffer).await? {
            0 => break,
            read => length += read,
        }
    }
    ensure!(length == 30_000_000 && many.wait().await? == 0, "{length} bytes of output");
    let late = sandbox.exec(["sleep", "30"]).timeout(Duration::from_secs(1)).start().await?;
    ensure!(late.poll().await?.is_none());
    ensure!(late.wait().await? == 137);
    let quiet =
        sandbox.exec(["echo", "x"]).stdout(Redirect::Null).stderr(Redirect::Null).output().await?;
    ensure!(quiet.code == 0 && quiet.stdout.is_empty());
    match sandbox.exec(["/no/such/program"]).await {
        Ok(process) => ensure!(process.wait().await? == 127),
        Err(error) => ensure!(error.is_not_found(), "{error:?}"),
    }
    sandbox.exec(["sh", "-c", "echo written > /data/from-sandbox"]).output().await?;
    let denied =
        sandbox.exec(["sh", "-c", "ls /read-only/big && touch /read-only/x"]).output().await?;
    ensure!(denied.code != 0 && denied.stdout == b"/read-only/big\n", "{denied:?}");
    let started = Instant::now();
    for _ in 0..20 {
        ensure!(sandbox.exec(["true"]).start().await?.wait().await? == 0);
    }
    println!("commands; one `true` in {:?}", started.elapsed() / 20);
    Ok(())
}

async fn files(sandbox: &Sandbox) -> anyhow::Result<()> {
    let files = sandbox.files();
    ensure!(!files.read("/opt/host").await?.is_empty());
    files.make_directory("/work/a/b", true).await?;
    let big = vec![7; 5_000_000];
    files.write("/work/a/big", big.clone()).await?;
    ensure!(files.read("/work/a/big").await? == big);
    files.write("/work/a/text", "hello\n").await?;
    ensure!(files.read_text("/work/a/text").await? == "hello\n");
    ensure!(files.list("/work/a").await?.len() == 3);
    ensure!(files.stat("/work/a/text").await?.size == 6);
    let missing = files.read("/work/none").await.unwrap_err();
    ensure!(missing.is_not_found(), "{missing:?}");
    files.remove("/work/a", true).await?;
    ensure!(files.stat("/work/a").await.unwrap_err().is_not_found());
    println!("files");
    Ok(())
}

async fn exits(
    client: &Client,
    app: &modal_client::App,
    image: &modal_client::BuiltImage,
) -> anyhow::Result<()> {
    let run = async |script: &str, timeout| -> anyhow::Result<modal_client::SandboxExit> {
        let sandbox = client.sandbox(app, image).command(["sh", "-c", script]);
        Ok(sandbox.timeout(timeout).create().await?.wait().await?)
    };
    let (long, short) = (Duration::from_secs(60), Duration::from_secs(1));
    ensure!(run("exit 0", long).await?.reason == ExitReason::Success);
    ensure!(run("exit 7", long).await?.code == 7);
    let late = run("sleep 30", short).await?;
    ensure!(late.reason == ExitReason::Timeout && late.code == 124, "{late:?}");
    let sandboxes = (0..8).map(|_| async {
        let sandbox = client.sandbox(app, image).command(["sleep", "60"]).create().await?;
        let code = sandbox.exec(["true"]).start().await?.wait().await?;
        sandbox.terminate_and_wait().await?;
        anyhow::Ok(code)
    });
    let started = Instant::now();
    let codes = futures::future::try_join_all(sandboxes).await?;
    ensure!(codes.iter().all(|code| *code == 0));
    println!("exits; eight sandboxes at once in {:?}", started.elapsed());
    Ok(())
}
