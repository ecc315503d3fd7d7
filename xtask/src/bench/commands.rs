//! Whole commands, from the start of the process to its end, beside the official command `modal` on the same server.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::ensure;
use tokio::process::Command;

use super::{python::Python, samples::Samples, server::Local};
use crate::{
    cmd::selfbench::{Goal, Measurement},
    context::Context,
};

/// How often each side lists, and how often it deploys.
const TURNS: u32 = 7;
/// Longest time of one command: a first deployment builds an image.
const LIMIT: Duration = Duration::from_secs(600);
/// A volume that both must name.
const VOLUME: &str = "selfbench-listed";

pub(crate) async fn measure(context: &Context) -> anyhow::Result<Vec<Measurement>> {
    let server = Local::of(context).await?;
    let python = Python::of(&context.workspace).await?;
    let directory = tempfile::tempdir()?;
    let programs =
        Programs { ours: std::env::current_exe()?, modal: python.command_line(), server };
    programs.server.client.volume(VOLUME).create_if_missing().await?;
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for turn in 0..=TURNS {
        let took = [programs.list_ours().await?, programs.list_theirs().await?];
        keep(turn, took, &mut ours, &mut theirs);
    }
    let (mut our_deploys, mut their_deploys) = (Samples::default(), Samples::default());
    for turn in 0..=TURNS {
        let ours = programs.deploy_ours(directory.path(), turn).await?;
        let took = [ours, programs.deploy_theirs(directory.path(), turn).await?];
        keep(turn, took, &mut our_deploys, &mut their_deploys);
    }
    programs.clean_up().await?;
    let row = |what: &str, ours: &Samples, theirs: &Samples, times: f64| {
        let (ours, theirs) = (ours.median(), theirs.median());
        Measurement::new(
            &format!("commands: {what}"),
            ours,
            Some(theirs),
            "ms",
            Goal::AtMost(1.0 / times),
        )
    };
    Ok(vec![
        row("list volumes, beside `modal volume list`", &ours, &theirs, 20.0),
        row("deploy one function, beside `modal deploy`", &our_deploys, &their_deploys, 5.0),
    ])
}

/// The first turn warms up: files come into memory, and images are built.
fn keep(turn: u32, [ours, theirs]: [f64; 2], our_side: &mut Samples, their_side: &mut Samples) {
    if turn > 0 {
        our_side.push(ours);
        their_side.push(theirs);
    }
}

/// Both sides, and the server that both talk to.
struct Programs {
    ours: PathBuf,
    modal: PathBuf,
    server: Local,
}

impl Programs {
    async fn list_ours(&self) -> anyhow::Result<f64> {
        let mut command = Command::new(&self.ours);
        command.args(["bench-job", "list-volumes"]);
        self.listed(command).await
    }

    async fn list_theirs(&self) -> anyhow::Result<f64> {
        let mut command = Command::new(&self.modal);
        command.args(["volume", "list", "--json"]);
        self.listed(command).await
    }

    async fn listed(&self, command: Command) -> anyhow::Result<f64> {
        let (ms, said) = self.timed(command).await?;
        ensure!(said.contains(VOLUME), "the list lacks `{VOLUME}`: {said}");
        Ok(ms)
    }

    async fn deploy_ours(&self, directory: &Path, turn: u32) -> anyhow::Result<f64> {
        // New each time, so that each time it is sent.
        let file = directory.join("ours.py");
        std::fs::write(&file, format!("def ours_bench(x):\n    return x + {turn}\n"))?;
        let mut command = Command::new(&self.ours);
        command.args(["bench-job", "deploy"]).arg(&file).arg("ours_bench");
        Ok(self.timed(command).await?.0)
    }

    async fn deploy_theirs(&self, directory: &Path, turn: u32) -> anyhow::Result<f64> {
        let file = directory.join("theirs.py");
        let source = format!(
            "import modal\n\napp = modal.App(\"theirs_bench\")\nimage = modal.Image.debian_slim(python_version=\"3.11\")\n\n\n\
             @app.function(image=image)\ndef theirs_bench(x):\n    return x + {turn}\n"
        );
        std::fs::write(&file, source)?;
        let mut command = Command::new(&self.modal);
        command.arg("deploy").arg(&file);
        Ok(self.timed(command).await?.0)
    }

    /// Milliseconds from start to end, and what it printed.
    async fn timed(&self, mut command: Command) -> anyhow::Result<(f64, String)> {
        command.envs(self.server.environment.iter().cloned()).kill_on_drop(true);
        let begun = Instant::now();
        let output = tokio::time::timeout(LIMIT, command.output()).await??;
        let ms = 1e3 * begun.elapsed().as_secs_f64();
        let [said, complained] =
            [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
        ensure!(
            output.status.success(),
            "{command:?} ended with {}: {complained}{said}",
            output.status
        );
        Ok((ms, said))
    }

    /// Stops what was deployed and removes the volume.
    async fn clean_up(&self) -> anyhow::Result<()> {
        let client = &self.server.client;
        for name in ["ours_bench", "theirs_bench"] {
            client.apps().stop(&client.app(name).await?.id).await?;
        }
        Ok(client.volume(VOLUME).await?.delete().await?)
    }
}
