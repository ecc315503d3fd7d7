//! Images: layers with secrets, a Dockerfile with its context, building anew, and using an image by its id.
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example images
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::path::Path;

use anyhow::ensure;
use modal_client::{App, BuildEvent, BuiltImage, Client, Config, Environ, Image, Secret};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(Config::from_env_and_file(&Environ::of_process())?).await?;
    let app = client.app("example-images").create_if_missing().await?;

    let token = Secret::from_map([("BUILD_TOKEN", "t-1")]);
    let image = Image::debian_slim()
        .run_commands(["test \"$BUILD_TOKEN\" = t-1 && echo built > /built"])
        .with_secret(token)
        .env([("GREETING", "hello from a layer")]);
    let built = client.build(&image, &app).on_event(show).await?;
    ensure!(
        run(&client, &app, &built, "cat /built; echo $GREETING").await?
            == "built\nhello from a layer\n"
    );

    // The second time every layer is there.
    let again = client.build(&image, &app).await?;
    ensure!(again == built);

    let directory = tempfile::tempdir()?;
    service(directory.path())?;
    let image = Image::from_dockerfile(directory.path().join("Dockerfile"))
        .context_dir(directory.path())
        .build_arg("WORDS", "from an argument");
    let built = client.build(&image, &app).on_log(|text| print!("{text}")).await?;
    let shown = run(&client, &app, &built, "ls /app; cat /app/words").await?;
    ensure!(shown == "main.sh\nwords\nfrom an argument\n", "{shown}");

    // An image that is known by its id is used without its description.
    let same = client.build(&Image::from_id(built.id.clone()), &app).await?;
    ensure!(same.id == built.id);

    // This one is on a private registry: the names of the secret's variables say how to log in.
    let login = Secret::from_map([("REGISTRY_USERNAME", "robot"), ("REGISTRY_PASSWORD", "p")]);
    let private = Image::from_registry("registry.example.com/team/base:1")
        .registry_secret(login)
        .add_python("3.12");
    println!("not built here: {private:?}");
    client.apps().stop(&app.id).await?;
    Ok(())
}

/// A Dockerfile with a context, of which one file is ignored.
fn service(root: &Path) -> anyhow::Result<()> {
    let dockerfile =
        "FROM debian:bookworm-slim\nARG WORDS\nCOPY app /app\nRUN echo $WORDS > /app/words\n";
    std::fs::write(root.join("Dockerfile"), dockerfile)?;
    std::fs::write(root.join(".dockerignore"), "**/*.secret\n")?;
    std::fs::create_dir(root.join("app"))?;
    std::fs::write(root.join("app/main.sh"), "echo main\n")?;
    std::fs::write(root.join("app/key.secret"), "stays here\n")?;
    Ok(())
}

fn show(event: BuildEvent<'_>) {
    match event {
        BuildEvent::LayerStarted { layer, layers, step } => println!("{layer} of {layers}: {step}"),
        BuildEvent::Output(text) => print!("{text}"),
        BuildEvent::LayerFinished { layer, cached } => {
            println!("{layer} is there (cached: {cached})")
        }
        _ => {}
    }
}

async fn run(
    client: &Client,
    app: &App,
    image: &BuiltImage,
    script: &str,
) -> anyhow::Result<String> {
    let sandbox = client.sandbox(app, image).command(["sh", "-c", script]).create().await?;
    sandbox.wait().await?;
    Ok(sandbox.stdout().read_text().await?)
}
