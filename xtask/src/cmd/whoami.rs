//! `whoami`: whose token is configured, and for which server.

use modal_client::{Client, Config, Environ};
use serde_json::json;

use crate::{context::Context, exit::Exit};

/// Show whose token is configured, and for which server
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask whoami
  MODAL_PROFILE=work cargo xtask whoami --output json")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> anyhow::Result<Exit> {
    let config = Config::from_env_and_file(&Environ::of_process())?;
    let profile = config.profile().map(str::to_owned);
    let client = Client::connect(config).await?;
    let token = client.token_info().await?;
    context.printer.json(&json!({
        "workspace": token.workspace,
        "user": token.user,
        "token_id": token.id,
        "token_name": token.name,
        "profile": profile,
        "server_url": client.server_url(),
    }))?;
    let rows = [
        ("workspace", Some(token.workspace)),
        ("user", token.user),
        (
            "token",
            token
                .name
                .map_or(Some(token.id.clone()), |name| Some(format!("{} ({name})", token.id))),
        ),
        ("profile", profile),
        ("server", Some(client.server_url().to_owned())),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            context.printer.text(&format!("{name:<10} {value}"));
        }
    }
    Ok(Exit::Ok)
}
