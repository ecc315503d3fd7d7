//! A deployment that ends before its end: by Ctrl-C, by an error, or because the local server is gone. Whoever waits
//! for it is told what was done, and how to go on.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use goat_services::app::APP;
use modal_client::Client;

use crate::{agent, context::Context, exit::Exit, services, signals::Signals};

/// How long what is deployed now is looked up.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks whether the local server still lives.
const PULSE: Duration = Duration::from_millis(300);

/// How far a deployment is.
#[derive(Default)]
pub(super) struct Progress(Mutex<State>);

#[derive(Default, Clone)]
struct State {
    stage: Stage,
    client: Option<Client>,
    /// The version that was deployed when it began.
    before: Option<u32>,
    /// The process of the local server.
    server: Option<i32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Looking, asking, building programs: nothing is changed yet.
    #[default]
    Preparing,
    /// Images are built, then all of it is published at once.
    Sending,
    /// It is published, and waited for.
    Waiting,
}

impl Progress {
    /// The server that all of it is asked of.
    pub(super) fn connected(&self, client: Option<&Client>, server: Option<i32>) {
        let mut state = self.locked();
        state.client = client.cloned();
        state.server = server;
    }

    /// From now on something may change.
    pub(super) fn sends(&self, before: Option<u32>) {
        let mut state = self.locked();
        (state.stage, state.before) = (Stage::Sending, before);
    }

    /// From now on it is waited for.
    pub(super) fn waits(&self) {
        self.locked().stage = Stage::Waiting;
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> State {
        self.locked().clone()
    }
}

/// Ends what was started here, and says what was done. Another signal ends the saying.
pub(super) async fn interrupted(
    progress: &Progress,
    signals: &mut Signals,
    context: &Context,
) -> Exit {
    agent::end_build();
    let words = tokio::select! {
        biased;
        () = signals.next() => unknown(),
        words = look(progress) => words,
    };
    context.printer.note(&format!("cancelled: {words}"));
    Exit::Cancelled
}

/// Says the same after an error that came in the middle.
pub(super) async fn failed(error: &anyhow::Error, progress: &Progress, context: &Context) {
    let State { stage, server, .. } = progress.state();
    if server.is_some() && error.chain().any(|cause| is_full(&cause.to_string())) {
        context.printer.warn(&full(context.state.root()));
    }
    if stage != Stage::Preparing {
        context.printer.note(&look(progress).await);
    }
}

/// What to do about a full disk.
fn full(state: &Path) -> String {
    format!(
        "the disk of the local server is full, which keeps what it has in `{}`: `cargo xtask local status` says what \
         takes the room, `cargo xtask local gc` frees what nobody needs",
        state.display()
    )
}

/// Whether an error tells of a full disk: the server's own word, or that of a program in a build.
fn is_full(words: &str) -> bool {
    ["disk of the local server is full", "No space left on device"]
        .iter()
        .any(|sign| words.contains(sign))
}

/// Returns when the local server's process is gone; elsewhere never. Its calls would be made again for a while.
pub(super) async fn server_gone(progress: &Progress) -> anyhow::Error {
    loop {
        tokio::time::sleep(PULSE).await;
        let State { stage, server, .. } = progress.state();
        if server.is_some_and(|pid| !lives(pid)) {
            agent::end_build();
            let words = match stage {
                Stage::Preparing => "nothing was deployed; ",
                Stage::Sending => "what it had finished is kept; ",
                Stage::Waiting => "what is deployed starts with it again; ",
            };
            return anyhow!(
                "the local server has ended in the middle of it: {words}`cargo xtask deploy` starts it anew and goes \
                 on; `cargo xtask local status` says where its log is"
            );
        }
    }
}

/// What is deployed now, compared with what was.
async fn look(progress: &Progress) -> String {
    let State { stage, client, before, .. } = progress.state();
    let (Some(client), true) = (client, stage != Stage::Preparing) else {
        return "nothing was deployed".to_owned();
    };
    match tokio::time::timeout(LOOK, services::current(&client)).await {
        Ok(Ok(now)) => words(stage, before, now.map(|current| current.version)),
        _ => unknown(),
    }
}

fn unknown() -> String {
    "whether it was deployed is not known: `cargo xtask history` tells, `cargo xtask deploy` goes on".to_owned()
}

fn words(stage: Stage, before: Option<u32>, now: Option<u32>) -> String {
    let waits = "`cargo xtask deploy --wait` waits for its containers";
    match (stage, before, now) {
        (_, _, Some(version)) if now != before => {
            format!("version {version} of {APP} is deployed; {waits}")
        }
        (Stage::Waiting, _, Some(version)) => {
            format!("version {version} of {APP} is deployed as before; {waits}")
        }
        (_, Some(version), _) => {
            format!("nothing was deployed, version {version} of {APP} goes on; {KEPT}")
        }
        (_, None, _) => format!("nothing was deployed; {KEPT}"),
    }
}

/// What becomes of images.
const KEPT: &str = "images that are finished are kept, and the server finishes one that it builds: `cargo xtask deploy` \
                    goes on from there";

/// Whether a process of this machine lives. One that nobody has waited for does not.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_at_every_stage() {
        let said = [
            words(Stage::Sending, None, None),
            words(Stage::Sending, Some(3), Some(3)),
            words(Stage::Sending, Some(3), Some(4)),
            words(Stage::Waiting, Some(3), Some(4)),
            words(Stage::Waiting, Some(4), Some(4)),
        ];
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_is_gone_does_not_live() {
        assert!(lives(i32::try_from(std::process::id()).unwrap()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!lives(pid));
    }
}
