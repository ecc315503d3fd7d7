//! Programs of this machine that make a base: their output into the build log, their end with ours.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::sync::{mpsc, oneshot};

use super::BaseError;
use crate::image::log::{BuildLog, Stream};

/// The last lines of a failed program's output that its error repeats.
const TAIL: usize = 8;

/// Runs `argv` to its end, with nothing of the server's environment but what `env` says.
///
/// The program and all it starts are killed if the server is: they run in a process namespace of
/// their own, whose first process has asked the kernel for that. This takes util-linux, which every
/// Debian has, and root, which making a Debian tree takes anyway.
pub(super) async fn run(
    what: &'static str,
    argv: &[&str],
    env: &[(String, String)],
    directory: &Path,
    log: &BuildLog,
) -> Result<(), BaseError> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL"]);
    command.args(["--mount", "--mount-proc", "--"]).args(argv);
    command.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    command.env("PATH", search_path(env)).env("LC_ALL", "C.UTF-8").env("HOME", "/root");
    command.env("DEBIAN_FRONTEND", "noninteractive").current_dir(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    follow(what, command, log).await
}

fn search_path(env: &[(String, String)]) -> String {
    const SYSTEM: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match env.iter().find(|(name, _)| name == "PATH") {
        Some((_, first)) => format!("{first}:{SYSTEM}"),
        None => SYSTEM.to_owned(),
    }
}

/// The kernel's promise to kill the child holds for the life of the *thread* that started it, so
/// that is one of its own.
async fn follow(what: &'static str, command: Command, log: &BuildLog) -> Result<(), BaseError> {
    let (lines, mut output) = mpsc::channel::<String>(64);
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("base-build".to_owned())
        .spawn(move || {
            // Nobody listens any more if the build was dropped.
            let _ = done.send(drive(command, &lines));
        })
        .map_err(|source| BaseError::Start { what, source })?;
    let mut tail = Vec::new();
    while let Some(line) = output.recv().await {
        log.append(Stream::Stderr, format!("{line}\n"));
        if tail.len() == TAIL {
            tail.remove(0);
        }
        tail.push(line);
    }
    match ended.await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(BaseError::Failed { what, status, output: tail.join("\n") }),
        Ok(Err(source)) => Err(BaseError::Start { what, source }),
        Err(_) => Err(BaseError::Start { what, source: std::io::ErrorKind::Interrupted.into() }),
    }
}

fn drive(
    mut command: Command,
    lines: &mpsc::Sender<String>,
) -> std::io::Result<std::process::ExitStatus> {
    let mut child = command.spawn()?;
    let readers = [
        child.stdout.take().map(|out| forward(out, lines.clone())),
        child.stderr.take().map(|err| forward(err, lines.clone())),
    ];
    for reader in readers.into_iter().flatten() {
        // A reader that panicked has lost lines, no more.
        let _ = reader.join();
    }
    child.wait()
}

fn forward(
    pipe: impl std::io::Read + Send + 'static,
    lines: mpsc::Sender<String>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    })
}
