//! Looks into a sandbox before the first trial: whether the image has the programs that MCP servers need.
//!
//! Without that, every trial would run without its servers, and the comparison of variants would compare nothing.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;

use crate::{
    Error, Result, Runner,
    backend::{Exec, RUN_TAG, Reach, Sandbox, SandboxSpec, TRIAL_TAG},
    lease::{create, terminate},
};

/// Time for the look.
const LOOK: Duration = Duration::from_secs(60);
/// Prints those of its arguments that are no programs.
const SCRIPT: &str = r#"for p; do command -v "$p" >/dev/null 2>&1 || printf '%s\n' "$p"; done"#;

/// An error names the first program that is missing, and whose it is.
pub(crate) async fn check(runner: &Runner) -> Result<()> {
    let Some(mcp) = runner.plan.extras.mcp.as_ref().filter(|mcp| !mcp.programs.is_empty()) else {
        return Ok(());
    };
    let tags = [(RUN_TAG, runner.plan.run.to_string()), (TRIAL_TAG, "preflight".to_owned())];
    let spec = SandboxSpec {
        tags: tags.map(|(name, value)| (name.to_owned(), value)).into(),
        results: None,
        env: BTreeMap::new(),
        timeout: LOOK * 2,
        reach: Reach::Nothing,
        skills: false,
        mcp: false,
    };
    let Some(sandbox) = create(runner, &spec).await? else { return Ok(()) };
    let programs: Vec<&str> = mcp.programs.iter().map(|(_, program)| program.as_str()).collect();
    let looked = missing(&*sandbox, &programs).await;
    terminate(runner, &*sandbox).await?;
    let Some(program) = looked? else { return Ok(()) };
    let owner = mcp.programs.iter().find(|(_, it)| *it == program);
    let server = owner.map(|(server, _)| server.clone()).unwrap_or_default();
    Err(Error::MissingProgram { server, program })
}

async fn missing(sandbox: &dyn Sandbox, programs: &[&str]) -> Result<Option<String>> {
    let argv = ["sh", "-c", SCRIPT, "sh"].into_iter().chain(programs.iter().copied());
    let mut running = sandbox.exec(&Exec::new(argv, LOOK)).await?;
    let looking = async {
        let mut said = Vec::new();
        while let Some(bytes) = running.stdout.next().await {
            said.extend_from_slice(&bytes?);
        }
        while let Some(bytes) = running.stderr.next().await {
            bytes?;
        }
        running.exit.await?;
        Ok(String::from_utf8_lossy(&said).lines().next().map(str::to_owned))
    };
    let late =
        |_| Error::Deadline { doing: "look for programs of MCP servers".into(), limit: LOOK };
    tokio::time::timeout(LOOK, looking).await.map_err(late)?
}
