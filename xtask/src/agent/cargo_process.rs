//! Cargo at work: whoever is told to stop in the middle leaves no compiler behind.

use std::{
    io,
    process::{Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The one that is at work; there are never two.
static AT_WORK: Mutex<Option<u32>> = Mutex::new(None);

/// Runs cargo to its end.
pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    *at_work() = Some(child.id());
    let status = child.wait();
    *at_work() = None;
    status
}

/// Ends cargo, and what it started, if it is at work.
pub(crate) fn end() {
    if let Some(cargo) = *at_work() {
        tree(cargo).into_iter().for_each(terminate);
    }
}

fn at_work() -> MutexGuard<'static, Option<u32>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process and its descendants, parents first: who ends first starts no more.
fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(process) = found.get(at) {
        found.extend(children(*process));
        at += 1;
    }
    found
}

/// As Linux tells them; elsewhere cargo's own end must do.
fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let text = |entry: io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(entry.ok()?.path().join("children")).ok()
    };
    let texts: Vec<String> = threads.filter_map(text).collect();
    texts.iter().flat_map(|text| text.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
}

#[cfg(unix)]
fn terminate(process: u32) {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // One that has ended meanwhile is what is wanted.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

#[cfg(not(unix))]
fn terminate(_: u32) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_started_ends_with_it() {
        let shell =
            std::thread::spawn(|| run(Command::new("sh").args(["-c", "sleep 600 & wait; true"])));
        let begun = || at_work().is_some_and(|cargo| tree(cargo).len() == 2);
        while !begun() {
            std::thread::yield_now();
        }
        let all = at_work().map(tree).unwrap();
        end();
        assert!(!shell.join().unwrap().unwrap().success());
        let is_gone = |id: &u32| {
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        while !all.iter().all(is_gone) {
            std::thread::yield_now();
        }
        assert!(at_work().is_none());
    }
}
