//! Secrets: made from a map, a dotenv file and variables; looked up, changed, listed, deleted.
//!
//! ```text
//! eval "$(cargo xtask local env)" && cargo run -p modal-client --example secrets
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use anyhow::ensure;
use modal_client::{Client, Config, Environ, IfExists, Secret};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let environ = Environ::of_process();
    let client = Client::connect(Config::from_env_and_file(&environ)?).await?;
    let secrets = client.secrets();

    // Kept by the server under a name.
    let stored = secrets.create("example-keys", [("API_KEY", "k-1")], IfExists::Overwrite).await?;
    let id = stored.id().expect("a stored secret has an id").clone();
    secrets.update(&id, [("REGION", Some("eu".into())), ("OLD", None)]).await?;
    let info = secrets.info("example-keys").await?;
    println!("{} has the variables {}", info.name, info.keys.join(", "));
    ensure!(info.keys.iter().any(|key| key == "REGION"));

    // A secret that lacks a variable is found out here and not in the sandbox.
    let missing = secrets.get_with_keys("example-keys", &["API_KEY", "TOKEN"]).await;
    println!("as it should be: {}", missing.expect_err("TOKEN is not there"));

    // Sent along with each request that uses them, and kept by nobody.
    let dotenv = Secret::from_dotenv("# for the example\nexport HOST=example.org\nPORT='80'\n")?;
    let process = Secret::from_environ(&environ, ["PATH"])?;
    ensure!(dotenv.keys() == ["HOST", "PORT"] && process.keys() == ["PATH"]);

    let listed = secrets.list().await?;
    ensure!(listed.iter().any(|secret| secret.id == id));
    secrets.delete(&id).await?;
    ensure!(secrets.get("example-keys").await.is_err_and(|error| error.is_not_found()));
    Ok(())
}
