//! Serves Modal's API from this machine: what tests start, and the container runtime re-executes.
//! People use `cargo xtask local`.
//!
//! ```text
//! modal-local serve --state-dir DIR [--port PORT] [--detach] [--idle-exit-secs N] [--disk-reserve BYTES]
//!                   [--disk-quota BYTES]
//! ```
//!
//! Once it serves, it prints one line: the URL. What happens is told on standard error, as much of
//! it as `RUST_LOG` asks for. The token is in `DIR/server.json`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use modal_local::daemon::{ServeOptions, serve};
use modal_local::{ServerConfig, StateDir};

const USAGE: &str = "usage: modal-local serve --state-dir DIR [--port PORT] [--detach] [--idle-exit-secs N] \
                     [--disk-reserve BYTES] [--disk-quota BYTES]";
/// The command line is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    container_runtime::run_if_spawner(modal_local::builtins());
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let (config, options) = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            report(&format!("{problem}\n{USAGE}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let done = tokio::runtime::Builder::new_multi_thread().enable_all().build().map(|runtime| {
        runtime.block_on(serve(config, options, |server| {
            // Nobody may be listening; the URL is in `server.json`, too.
            let _ = writeln!(std::io::stdout(), "{}", server.url());
        }))
    });
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            report(&chain(&error));
            ExitCode::FAILURE
        }
        Err(error) => {
            report(&format!("cannot start threads: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn arguments(
    mut arguments: impl Iterator<Item = String>,
) -> Result<(ServerConfig, ServeOptions), String> {
    if arguments.next().as_deref() != Some("serve") {
        return Err("the only command is `serve`".to_owned());
    }
    let (mut state_dir, mut port) = (None, 0);
    let mut reserve = modal_local::DiskReserve::default();
    let mut quota = modal_local::DiskQuota::default();
    let mut options = ServeOptions::default();
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("`{flag}` needs a value"));
        match flag.as_str() {
            "--state-dir" => state_dir = Some(PathBuf::from(value()?)),
            "--port" => port = number(&flag, &value()?)?,
            "--idle-exit-secs" => {
                options.idle_exit = Some(Duration::from_secs(number(&flag, &value()?)?));
            }
            "--disk-reserve" => reserve = value()?.parse().map_err(|error| format!("{error}"))?,
            "--disk-quota" => quota = value()?.parse().map_err(|error| format!("{error}"))?,
            "--detach" => options.detach = true,
            _ => return Err(format!("unknown argument `{flag}`")),
        }
    }
    let state_dir = state_dir.ok_or("`--state-dir` is missing")?;
    let mut config = ServerConfig::new(StateDir::new(state_dir));
    config.port = port;
    config.disk_reserve = reserve;
    config.disk_quota = quota;
    Ok((config, options))
}

fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{flag}` needs a number, not `{text}`"))
}

/// An error and its causes, once each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn report(text: &str) {
    // There is nowhere to say that standard error is closed.
    let _ = writeln!(std::io::stderr(), "modal-local: {text}");
}
