//! `local`: the Modal-compatible server of this machine.

#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "the server runs on Linux alone"))]
mod substitute;

use crate::{context::Context, exit::Exit};

/// The Modal-compatible server of this machine: start, look at, stop, clean up
///
/// Commands with target `local` start it by themselves, in the background; it ends itself after a
/// quarter of an hour without sandboxes and calls.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask local status
  eval \"$(cargo xtask local env)\" && modal volume ls goat-results    any official SDK or CLI
  cargo xtask local serve --foreground -v")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

impl Args {
    /// Whether it looks at what runs here, so that what killed commands left is cleaned up before.
    pub(crate) fn looks(&self) -> bool {
        matches!(self.what, What::Status | What::Gc)
    }
}

#[derive(clap::Subcommand)]
enum What {
    /// Start it, where none runs, and say where it listens
    #[command(after_help = "\
Examples:
  cargo xtask local serve --foreground --port 8123 -v
  cargo xtask local serve --disk-reserve 10GiB --disk-quota 50GiB")]
    Serve(Serve),
    /// Say what it does and what it can do on this machine
    #[command(after_help = "Example:\n  cargo xtask local status --output json | jq -r .url")]
    Status,
    /// End it with everything that runs on it
    #[command(after_help = "Example:\n  cargo xtask local stop")]
    Stop,
    /// Remove what nothing needs any more: contents, directories, cached image layers
    #[command(after_help = "Example:\n  cargo xtask local gc --output json")]
    Gc,
    /// Have it build something else for an image of a registry, which it can't pull
    ///
    /// Every build that uses it says so, and `local status` lists what was said. A sandbox whose image stands in for
    /// another may ask for a GPU, and runs without.
    #[command(after_help = "\
Examples:
  cargo xtask local substitute alpine:3.21 --by debian:bookworm-slim
  cargo xtask local substitute my/tools:2 --dockerfile tools.Dockerfile
  cargo xtask local substitute alpine:3.21 --remove")]
    Substitute(substitute::Args),
    /// Print `export` lines that point any official Modal SDK at it, starting it where none runs
    #[command(after_help = "\
Examples:
  eval \"$(cargo xtask local env)\" && modal volume list
  cargo xtask local env --output json")]
    Env,
}

#[derive(clap::Args)]
struct Serve {
    /// Serve in this process until Ctrl-C
    #[arg(long)]
    foreground: bool,
    /// Serve in this process as a background one
    #[arg(long, hide = true, conflicts_with = "foreground")]
    detached: bool,
    /// Port on loopback, with --foreground; 0 takes a free one
    #[arg(long, default_value_t = 0, requires = "foreground")]
    port: u16,
    /// What it leaves free of the disk, such as 512MiB; below it nothing new is begun. A twentieth of
    /// the disk and at most 2 GiB unless given; 0 turns the check off
    #[arg(long, value_name = "BYTES", env = "GOAT_DISK_RESERVE")]
    disk_reserve: Option<String>,
    /// What the state directory may take in all, such as 50GiB; above it nothing new is begun. No limit
    /// but the disk's unless given
    #[arg(long, value_name = "BYTES", env = "GOAT_DISK_QUOTA")]
    disk_quota: Option<String>,
}

#[cfg(not(target_os = "linux"))]
pub(crate) use self::elsewhere::{run, running_sandboxes};
#[cfg(target_os = "linux")]
pub(crate) use self::linux::{run, running_sandboxes, server_process, variables};

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Duration;

    use modal_local::{
        DiskUsage, ServerConfig, StateDir,
        daemon::{self, ServeOptions, ServerStatus},
    };
    use sandbox_runner::relay::RelayServer;
    use serde_json::json;

    use super::{Args, Context, Exit, Serve, What};
    use crate::{exit::UsageError, local_server::LocalServer, table::seconds};

    /// What tells a background server how much of the disk to leave free.
    const DISK_RESERVE: &str = "GOAT_DISK_RESERVE";
    /// And how much it may take.
    const DISK_QUOTA: &str = "GOAT_DISK_QUOTA";
    /// Kinds that take less are not worth a word.
    const SHOWN: u64 = 1 << 20;

    /// A background server ends itself after so long without sandboxes, builds and calls.
    const IDLE: Duration = Duration::from_secs(15 * 60);

    pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
        match args.what {
            What::Serve(args) if args.foreground || args.detached => serve(&args, context).await,
            What::Serve(args) => start(&args, context).await,
            What::Status => status(context).await,
            What::Stop => stop(context).await,
            What::Gc => collect(context).await,
            What::Substitute(args) => super::substitute::run(args, context).await,
            What::Env => env(context).await,
        }
    }

    /// The server of this machine, started in the background where none runs.
    async fn ensure_running(context: &Context) -> anyhow::Result<RelayServer> {
        LocalServer::of(context).ensure_running().await
    }

    /// How many sandboxes run on this machine's server.
    pub(crate) async fn running_sandboxes(context: &Context) -> anyhow::Result<usize> {
        let status = daemon::status(&directory(context)).await?;
        Ok(status.map_or(0, |status| status.sandboxes))
    }

    /// The process of this machine's server, if one runs.
    pub(crate) async fn server_process(context: &Context) -> anyhow::Result<Option<i32>> {
        let status = daemon::status(&directory(context)).await?;
        Ok(status.map(|status| status.pid))
    }

    fn directory(context: &Context) -> StateDir {
        StateDir::new(context.state.root())
    }

    async fn serve(args: &Serve, context: &Context) -> anyhow::Result<Exit> {
        let mut config = ServerConfig::new(directory(context));
        config.port = args.port;
        if let Some(reserve) = &args.disk_reserve {
            config.disk_reserve =
                reserve.parse().map_err(|error| UsageError(format!("--disk-reserve: {error}")))?;
        }
        if let Some(quota) = &args.disk_quota {
            config.disk_quota =
                quota.parse().map_err(|error| UsageError(format!("--disk-quota: {error}")))?;
        }
        let idle_exit = args.detached.then_some(IDLE);
        let options = ServeOptions { detach: args.detached, idle_exit };
        let printer = context.printer.clone();
        let said = move |server: &modal_local::Server| {
            printer.text(server.url());
            if let Err(error) = printer.json(&json!({"url": server.url()})) {
                tracing::error!(%error, "can't say where the server listens");
            }
        };
        daemon::serve(config, options, said).await?;
        Ok(Exit::Ok)
    }

    async fn start(args: &Serve, context: &Context) -> anyhow::Result<Exit> {
        let reserve = args.disk_reserve.as_deref().map(|reserve| (DISK_RESERVE, reserve));
        let quota = args.disk_quota.as_deref().map(|quota| (DISK_QUOTA, quota));
        let variables = reserve.into_iter().chain(quota);
        let server = LocalServer::of(context).ensure_running_with(variables).await?;
        context.printer.text(&server.url);
        context.printer.json(&json!({"url": server.url}))?;
        Ok(Exit::Ok)
    }

    async fn status(context: &Context) -> anyhow::Result<Exit> {
        let status = daemon::status(&directory(context)).await?;
        let disk = match &status {
            Some(_) => daemon::usage(&directory(context)).await?,
            None => None,
        };
        let mut json = serde_json::to_value(&status)?;
        match &mut json {
            serde_json::Value::Object(fields) => {
                fields.insert("state".into(), "running".into());
                fields.insert("disk".into(), serde_json::to_value(&disk)?);
            }
            none => *none = json!({"state": "stopped"}),
        }
        context.printer.json(&json)?;
        match status {
            Some(status) => context.printer.text(&status_text(&status, disk.as_ref())),
            None => {
                context.printer.text("no local server runs; commands start it when they need it")
            }
        }
        Ok(Exit::Ok)
    }

    fn status_text(status: &ServerStatus, disk: Option<&DiskUsage>) -> String {
        let ServerStatus { url, pid, version, state_dir, sandboxes, builds, .. } = status;
        let uptime = seconds(status.uptime_secs() as f64);
        let containers =
            status.containers.as_deref().unwrap_or("not tried yet: no sandbox was made");
        let mut text = format!(
            "{url}  process {pid}, version {version}, up {uptime}, idle {} s\n\
             state       {state_dir}\n\
             running     {sandboxes} sandboxes, {builds} image builds\n\
             isolation   {containers}",
            status.idle_secs
        );
        if let Some(limits) = &status.limits {
            text.push_str(&format!("\nsandboxes   {limits}, unless they ask for other limits"));
        }
        if let Some(disk) = disk {
            text.push_str(&format!("\ndisk        {}", disk_text(disk)));
        }
        for it in &status.substitutions {
            let instead = it.dockerfile_commands.first().map(String::as_str).unwrap_or_default();
            text.push_str(&format!("\ninstead     {} → {instead} ({})", it.matches, it.reason));
        }
        text
    }

    fn disk_text(disk: &DiskUsage) -> String {
        let used = disk.used.named().into_iter().filter(|(_, bytes)| *bytes >= SHOWN);
        let used: Vec<_> =
            used.map(|(kind, bytes)| format!("{} of {kind}", amount(bytes))).collect();
        let used = if used.is_empty() { String::new() } else { format!(": {}", used.join(", ")) };
        let total = amount(disk.used.total());
        let (free, reserve) = (amount(disk.free), amount(disk.reserve));
        let full = if disk.is_full {
            "; full: nothing new is begun until `cargo xtask local gc` or a deletion makes room"
        } else {
            ""
        };
        let quota = disk.quota.map(|quota| format!(" of a quota of {}", amount(quota)));
        let quota = quota.unwrap_or_default();
        format!("{total} taken{quota}{used}; {free} free, {reserve} of it in reserve{full}")
    }

    fn amount(bytes: u64) -> String {
        match bytes {
            0..1_048_576 => format!("{} KiB", bytes >> 10),
            1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
            _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        }
    }

    async fn stop(context: &Context) -> anyhow::Result<Exit> {
        let stopped = daemon::stop(&directory(context)).await?;
        context.printer.json(&json!({"stopped": stopped}))?;
        context.printer.text(if stopped { "stopped" } else { "no local server runs" });
        Ok(Exit::Ok)
    }

    async fn collect(context: &Context) -> anyhow::Result<Exit> {
        ensure_running(context).await?;
        let collected = daemon::collect(&directory(context)).await?.unwrap_or_default();
        context.printer.json(&collected)?;
        let (objects, layers, contents) = (collected.objects, collected.layers, collected.contents);
        let megabytes = collected.bytes as f64 / 1e6;
        context.printer.text(&format!(
            "removed {objects} objects, {layers} image layers, {contents} contents, {} directories, \
             {} log lines: {megabytes:.1} MB",
            collected.directories, collected.log_lines
        ));
        Ok(Exit::Ok)
    }

    /// What points any official SDK at the server, which is started where none runs.
    pub(crate) async fn variables(
        context: &Context,
    ) -> anyhow::Result<Vec<(&'static str, String)>> {
        let server = ensure_running(context).await?;
        let roots = directory(context).tls_roots().display().to_string();
        let mut variables = vec![
            ("MODAL_SERVER_URL", server.url.clone()),
            ("MODAL_TOKEN_ID", server.token_id.clone()),
            ("MODAL_TOKEN_SECRET", server.token_secret.expose().to_owned()),
        ];
        // What trusts the tunnels of sandboxes: this machine's roots and the server's own.
        let trust = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
        variables.extend(trust.map(|name| (name, roots.clone())));
        Ok(variables)
    }

    async fn env(context: &Context) -> anyhow::Result<Exit> {
        let variables = variables(context).await?;
        let lines: Vec<_> =
            variables.iter().map(|(name, value)| format!("export {name}='{value}'")).collect();
        context.printer.text(&lines.join("\n"));
        context.printer.json(&std::collections::BTreeMap::from_iter(variables))?;
        Ok(Exit::Ok)
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use anyhow::bail;

    use super::{Args, Context, Exit, Serve, What};

    const WHY: &str = "the local target isolates sandboxes with Linux namespaces: use --target modal, \
                       or run this in a Linux machine or container";

    pub(crate) async fn run(args: Args, _context: &Context) -> anyhow::Result<Exit> {
        match args.what {
            What::Serve(Serve {
                foreground: _,
                detached: _,
                port: _,
                disk_reserve: _,
                disk_quota: _,
            })
            | What::Status
            | What::Stop
            | What::Gc
            | What::Substitute(_)
            | What::Env => bail!(WHY),
        }
    }

    pub(crate) async fn running_sandboxes(_context: &Context) -> anyhow::Result<usize> {
        bail!(WHY)
    }
}
