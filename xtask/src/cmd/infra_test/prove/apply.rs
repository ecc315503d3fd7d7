//! Does to a check what its sabotage says, and undoes it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use llm_replay::{ReplayConfig, ReplayServer};
use modal_client::Client;
use reqwest::header::HeaderValue;
use tempfile::TempDir;

use super::{
    super::{
        Args,
        sabotage::{How, Made, Service},
    },
    child::Child,
    halt::Halted,
    meddle::{Between, Keys, Meddler},
};
use crate::{
    backend::{self, RESULTS},
    context::Context,
    model::RECORDINGS,
    reach::Services,
};

/// What a run goes with, until it is undone.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) words: Vec<OsString>,
    pub(super) variables: Vec<(OsString, OsString)>,
    /// Seconds that services may take.
    pub(super) within: Option<u64>,
    /// Whether phase 5 evaluates anew.
    pub(super) makes_a_run: bool,
    undo: Option<Undo>,
}

/// What ends it.
enum Undo {
    Directory { _directory: TempDir },
    Resume(Halted),
    Leave { _between: Between },
    Stop { _server: ReplayServer },
    Rename { client: Client, from: String, to: &'static str },
    PutBack { client: Client, path: String, bytes: Bytes },
}

impl Applied {
    /// No sabotage.
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    fn words<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    fn until(mut self, undo: Undo) -> Self {
        self.undo = Some(undo);
        self
    }

    /// As it was before.
    pub(super) async fn undo(self) -> anyhow::Result<()> {
        match self.undo {
            Some(Undo::Rename { client, from, to }) => {
                let mut volume = client.volume(&from).await?;
                volume
                    .rename(to)
                    .await
                    .with_context(|| format!("volume {to} is still named {from}"))
            }
            Some(Undo::PutBack { client, path, bytes }) => {
                let volume = client.volume(RESULTS).await?;
                volume.upload().bytes(bytes, &*path).await?;
                Ok(())
            }
            Some(Undo::Resume(halted)) => halted.resume(),
            Some(Undo::Directory { .. } | Undo::Leave { .. } | Undo::Stop { .. }) | None => Ok(()),
        }
    }
}

pub(super) async fn apply(
    how: &How,
    child: &Child,
    args: &Args,
    context: &Context,
) -> anyhow::Result<Applied> {
    match how {
        How::Words(words) => {
            let makes_a_run = words.contains(&"--binary");
            Ok(Applied { makes_a_run, ..Applied::words(*words) })
        }
        How::Flag(flag, made) => {
            let (value, directory) = make(made, child)?;
            Ok(Applied::words([OsStr::new(flag), &value]).until(directory))
        }
        How::Variable(name, made) => {
            let (value, directory) = make(made, child)?;
            let variables = vec![(OsString::from(name), value)];
            Ok(Applied { variables, ..Applied::default() }.until(directory))
        }
        How::Rename(name) => {
            let (client, _) = backend::client(context).await?;
            let mut volume = client.volume(*name).await?;
            let from = format!("{name}-hidden");
            volume.rename(&*from).await?;
            Ok(Applied::nothing().until(Undo::Rename { client, from, to: name }))
        }
        How::Halt(program, seconds) => {
            let halted = Undo::Resume(Halted::new(*program, context).await?);
            Ok(Applied { within: Some(*seconds), ..Applied::default() }.until(halted))
        }
        How::Between(service, meddler) => between(*service, *meddler, args, context).await,
        How::BetweenFor(service, meddler, seconds) => {
            let applied = between(*service, *meddler, args, context).await?;
            Ok(Applied { within: Some(*seconds), ..applied })
        }
        How::HideTrial => hide_trial(child, context).await,
        How::OtherModel => {
            let config = ReplayConfig::new(vec![context.workspace.path(RECORDINGS)]);
            let server = ReplayServer::start(config).await?;
            let applied = Applied::words(["--api-url", &*server.url()]);
            Ok(Applied { makes_a_run: true, ..applied }.until(Undo::Stop { _server: server }))
        }
    }
}

async fn between(
    service: Service,
    meddler: Meddler,
    args: &Args,
    context: &Context,
) -> anyhow::Result<Applied> {
    let services = Services::new(&args.services, context)?;
    let (flag, url) = match service {
        Service::Litellm => ("--litellm-url", services.litellm_url().await?),
        Service::Langfuse => ("--langfuse-url", services.traces_url().await?),
    };
    let between = Between::start(meddler, keys(&services)?, url).await?;
    Ok(Applied::words([flag, &*between.url()]).until(Undo::Leave { _between: between }))
}

fn keys(services: &Services<'_>) -> anyhow::Result<Keys> {
    let value = |text: String| -> anyhow::Result<HeaderValue> {
        let mut value = HeaderValue::from_str(&text)?;
        value.set_sensitive(true);
        Ok(value)
    };
    let (public, secret) = services.project_keys()?;
    let login = format!("{}:{}", public.expose(), secret.expose());
    let master = services.secret(&["LITELLM_MASTER_KEY"])?;
    Ok(Keys {
        master: value(format!("Bearer {}", master.expose()))?,
        project: value(format!("Basic {}", STANDARD.encode(login)))?,
    })
}

async fn hide_trial(child: &Child, context: &Context) -> anyhow::Result<Applied> {
    let run = child.run.as_ref().context("there is no run whose trial could be hidden")?;
    let (client, _) = backend::client(context).await?;
    let volume = client.volume(RESULTS).await?;
    let path = format!("/{run}/prompt-baseline.json");
    let bytes = volume.read(&*path).bytes().await?;
    volume.remove(&*path).await?;
    Ok(Applied::nothing().until(Undo::PutBack { client, path, bytes }))
}

/// Makes a thing, and the directory that it lies in.
fn make(made: &Made, child: &Child) -> anyhow::Result<(OsString, Undo)> {
    let directory = tempfile::tempdir()?;
    let value = match made {
        Made::Text(text) => OsString::from(text),
        Made::File(text) => written(directory.path().join("file"), text, 0o755)?.into(),
        Made::OpenValues => {
            let text = fs::read_to_string(child.values()).unwrap_or_default();
            let marked = text.lines().map(|line| line.split('=').next().unwrap_or_default());
            let names: String = marked.map(|name| format!("{name}=hidden\n")).collect();
            written(directory.path().join("values.env"), &names, 0o644)?.into()
        }
        Made::OtherValue(name) => {
            written(directory.path().join("values.env"), &other(child.values(), name)?, 0o600)?
                .into()
        }
        Made::BrokenProgram(name) => {
            written(directory.path().join(name), "#!/bin/sh\nexit 1\n", 0o755)?;
            let path = std::env::var_os("PATH").unwrap_or_default();
            let paths =
                std::iter::once(directory.path().to_owned()).chain(std::env::split_paths(&path));
            std::env::join_paths(paths)?
        }
    };
    Ok((value, Undo::Directory { _directory: directory }))
}

/// The file of values, but for one.
fn other(values: &Path, name: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(values)
        .with_context(|| format!("can't read `{}`: run `cargo xtask setup`", values.display()))?;
    let begin = format!("{name}=");
    if !text.lines().any(|line| line.starts_with(&begin)) {
        bail!("`{}` has no {name}", values.display());
    }
    let line = |line: &str| match line.starts_with(&begin) {
        true => format!("{begin}sk-another\n"),
        false => format!("{line}\n"),
    };
    Ok(text.lines().map(line).collect())
}

fn written(path: PathBuf, text: &str, mode: u32) -> anyhow::Result<PathBuf> {
    // With its mode from the beginning.
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
    file.write_all(text.as_bytes())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(path)
}
