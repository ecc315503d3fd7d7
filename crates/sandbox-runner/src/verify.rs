//! Checks after the agent ended.

use std::time::Duration;

use eval_types::{Verdict, Verification};

use crate::{
    Error, Result,
    backend::{Exec, Sandbox, WORKSPACE},
    capture::{Capture, follow},
    task::Check,
};

/// How much of a check's output is kept.
const KEPT: usize = 4_000;
/// What the backend may need beyond a check's own time.
const GRACE: Duration = Duration::from_secs(15);

/// Runs the checks in order up to the first that is not satisfied; none where there is none.
pub(crate) async fn verify(
    sandbox: &dyn Sandbox,
    checks: &[Check],
    answer: &str,
) -> Result<Option<Verification>> {
    let mut last = None;
    for check in checks {
        let done = match check {
            Check::AnswerContains(text) => answer_contains(answer, text),
            Check::Command { command, timeout } => run(sandbox, command, *timeout).await?,
        };
        let failed = done.verdict != Verdict::Passed;
        last = Some(done);
        if failed {
            break;
        }
    }
    Ok(last)
}

fn answer_contains(answer: &str, text: &str) -> Verification {
    let held = answer.to_lowercase().contains(&text.to_lowercase());
    Verification {
        verdict: verdict(held),
        check: format!("the answer holds `{text}`"),
        output: String::new(),
    }
}

async fn run(sandbox: &dyn Sandbox, command: &str, timeout: Duration) -> Result<Verification> {
    let check = format!("`{command}` succeeds");
    let running = match sandbox.exec(&exec(command, timeout)).await {
        // The agent may have removed the shell, or used up the processes: its check is not satisfied.
        Err(error @ Error::Refused { .. }) => {
            let verdict = Verdict::Failed;
            return Ok(Verification { verdict, check, output: error.chain() });
        }
        running => running?,
    };
    let (said, complained) = (Capture::default(), Capture::default());
    let all = async {
        let ignore = async |_: String| {};
        let outputs = async {
            let (out, err) = tokio::join!(
                said.fill(running.stdout, None, ignore),
                complained.fill(running.stderr, None, ignore)
            );
            out.and(err)
        };
        follow(running.exit, outputs).await
    };
    let code = tokio::time::timeout(timeout + GRACE, all).await;
    let mut output = tail(&format!("{}\n{}", said.text(None), complained.text(None)));
    let held = match code {
        Ok(code) => code? == 0,
        Err(_) => {
            output = format!("{output}\n[not ended within {} s]", timeout.as_secs());
            false
        }
    };
    Ok(Verification { verdict: verdict(held), check, output: output.trim().to_owned() })
}

/// The command, in the workspace. The shell goes there by itself, since no program starts in a
/// directory that the agent removed.
fn exec(command: &str, timeout: Duration) -> Exec {
    Exec::shell(&format!("cd {WORKSPACE} || exit 126\n{command}"), timeout).outside()
}

fn verdict(held: bool) -> Verdict {
    if held { Verdict::Passed } else { Verdict::Failed }
}

fn tail(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(KEPT);
    text.chars().skip(skipped).collect()
}
