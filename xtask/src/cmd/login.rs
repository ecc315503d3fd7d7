//! `login`: a token of Modal's through the browser, into `~/.modal.toml`.

use std::{net::Ipv4Addr, process::Stdio};

use anyhow::Context as _;
use axum::{Router, http::header, routing::get};
use modal_client::{
    Client, Config, Environ, NewToken, TokenFlow,
    config::{config_path, store_token},
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    context::Context,
    exit::{Exit, UsageError},
    printer::Printer,
};

/// Get a token of Modal's through the browser and keep it in ~/.modal.toml
///
/// Other profiles and comments in that file stay as they are; only you can read it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask login
  cargo xtask login --profile work --no-browser")]
pub(crate) struct Args {
    /// Profile that gets the token; without it MODAL_PROFILE, else the workspace's name
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Do not make that profile the active one
    #[arg(long)]
    no_activate: bool,
    /// Only print the address, open no browser
    #[arg(long)]
    no_browser: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let environ = Environ::of_process();
    let path = config_path(&environ).ok_or_else(|| {
        UsageError("there is no home directory; set MODAL_CONFIG_PATH".to_owned())
    })?;
    let config = configured(&environ)?;
    let token = token(&config, args.no_browser, &context.printer).await?;
    let verified = Client::connect(config.with_token(&token.id, token.secret.clone())).await?;
    verified.verify().await.context("the new token is not accepted")?;
    let profile = profile(&args, &environ, &token);
    let server = environ.get("MODAL_SERVER_URL");
    store_token(&path, &profile, &token, server, !args.no_activate)?;
    for name in ["MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"] {
        if environ.get(name).is_some() {
            context.printer.warn(&format!("{name} is set and wins over the new token"));
        }
    }
    let path = path.display().to_string();
    context.printer.json(&json!({
        "profile": profile,
        "workspace": token.workspace,
        "token_id": token.id,
        "config_path": path,
        "active": !args.no_activate,
    }))?;
    context.printer.text(&format!("profile `{profile}` of {path} has a new token"));
    Ok(Exit::Ok)
}

/// The configuration whose server is asked. A file that names another profile, or half a token, must not keep one from
/// logging in.
fn configured(environ: &Environ) -> anyhow::Result<Config> {
    match Config::from_env_and_file(environ) {
        Ok(config) => Ok(config),
        Err(modal_client::Error::Config(
            modal_client::config::ConfigError::NoProfile { .. }
            | modal_client::config::ConfigError::HalfToken { .. },
        )) => {
            let url = environ.get("MODAL_SERVER_URL");
            Ok(Config::new(url.unwrap_or(modal_client::config::DEFAULT_SERVER_URL), "", ""))
        }
        Err(error) => Err(error.into()),
    }
}

fn profile(args: &Args, environ: &Environ, token: &NewToken) -> String {
    let named = args.profile.clone().or_else(|| environ.get("MODAL_PROFILE").map(str::to_owned));
    named.unwrap_or_else(|| match token.workspace.as_str() {
        "" => "default".to_owned(),
        workspace => workspace.to_owned(),
    })
}

/// Begins a login, answers the page that asks this machine whose it is, and waits for the token.
async fn token(config: &Config, no_browser: bool, printer: &Printer) -> anyhow::Result<NewToken> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let flow = TokenFlow::start(config.clone(), port).await?;
    let id = flow.id().to_owned();
    // Modal's page reads it from the browser to see that both are on one machine. It is of no use to others.
    let answer = move || async move { ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], id) };
    let page = axum::serve(listener, Router::new().route("/", get(answer)));
    let serving = tokio::spawn(page.into_future());
    let opened = !no_browser && open(flow.web_url());
    printer.note(match opened {
        true => "confirm in the browser that has opened; if none has, open this address:",
        false => "open this address in a browser and confirm:",
    });
    printer.note(flow.web_url());
    if let Some(code) = flow.code() {
        printer.note(&format!("code: {code}"));
    }
    let token = flow.wait().await;
    serving.abort();
    Ok(token?)
}

/// Whether a browser could be started.
fn open(url: &str) -> bool {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = std::process::Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}
