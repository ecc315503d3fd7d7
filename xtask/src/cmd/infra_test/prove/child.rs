//! The command as a person would start it.

use std::{ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use eval_types::RunId;

use super::{
    super::{
        Args,
        check::CheckId,
        phase::Phase,
        report::{Row, Status},
    },
    apply::Applied,
};
use crate::{
    cmd::setup::env_path,
    context::Context,
    exit::{Cancelled, Exit},
};

/// A phase takes a few seconds; an evaluation is among them.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs of one phase.
pub(super) struct Child {
    phase: Phase,
    environment: String,
    values: PathBuf,
    within: u64,
    /// The run that phase 5 looks at, once there is one.
    pub(super) run: Option<RunId>,
}

impl Child {
    pub(super) fn new(phase: Phase, args: &Args, context: &Context) -> anyhow::Result<Self> {
        let values = env_path::choose(args.services.sources.env_file.as_deref(), context)?;
        let environment = context.environment.clone();
        Ok(Self { phase, environment, values, within: args.within, run: args.run.clone() })
    }

    /// The file of values.
    pub(super) fn values(&self) -> &std::path::Path {
        &self.values
    }

    /// Runs the phase under a sabotage.
    pub(super) async fn run(&self, under: &Applied) -> anyhow::Result<Vec<Row>> {
        let program = std::env::current_exe().context("can't find this program's own file")?;
        let mut command = tokio::process::Command::new(program);
        command.args(["infra-test", self.phase.name(), "--target", "local", "--output", "json"]);
        let mut flags = vec![
            ("--env", self.environment.clone().into()),
            ("--env-file", self.values.clone().into_os_string()),
            ("--within", under.within.unwrap_or(self.within).to_string().into()),
        ];
        flags.extend(
            self.run
                .iter()
                .filter(|_| !under.makes_a_run)
                .map(|run| ("--run", run.as_str().into())),
        );
        let given = |flag: &str| under.words.iter().any(|word| word == flag);
        for (flag, value) in flags.into_iter().filter(|(flag, _): &(&str, OsString)| !given(flag)) {
            command.arg(flag).arg(value);
        }
        command.args(&under.words).envs(under.variables.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = tokio::select! {
            output = command.output() => output.context("can't start this program again")?,
            _ = tokio::signal::ctrl_c() => bail!(Cancelled),
            () = tokio::time::sleep(LIMIT) => bail!("it took more than {} s", LIMIT.as_secs()),
        };
        let is_an_end = |exit: Exit| output.status.code() == Some(exit.code().into());
        let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !is_an_end(Exit::Ok) && !is_an_end(Exit::Failed) {
            bail!("{} ended with {}: {}", self.phase.name(), output.status, said());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("no rows: {}", said()))
    }

    /// Later runs look at the evaluation that this one made.
    pub(super) fn remember_run(&mut self, rows: &[Row]) {
        let name = CheckId::Evaluation.name();
        let evaluated = rows.iter().find(|row| row.check == name && row.status == Status::Passed);
        let run = evaluated.and_then(|row| row.answer.rsplit(' ').next()?.parse().ok());
        self.run = self.run.take().or(run);
    }
}
