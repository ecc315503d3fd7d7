//! Which processes descend from another, by `/proc`.

use std::collections::HashMap;

use rustix::process::{Pid, Signal};

/// A process: its parent, and whether it only waits to be reaped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    pub(super) pid: u32,
    parent: u32,
    pub(super) is_zombie: bool,
}

/// All processes that can be seen. None where there is no `/proc`.
fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    })
    .collect()
}

/// Reads `/proc/<pid>/stat`: `pid (name) state parent …`. The name may hold anything, also brackets.
fn parse(pid: u32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let is_zombie = matches!(words.next()?, "Z" | "X");
    Some(Process { pid, parent: words.next()?.parse().ok()?, is_zombie })
}

/// Every descendant of `ancestor`, without itself.
pub(super) fn of(ancestor: u32) -> Vec<Process> {
    below(&processes(), ancestor)
}

fn below(processes: &[Process], ancestor: u32) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut ask = vec![ancestor];
    while let Some(parent) = ask.pop() {
        let born = children.remove(&parent).unwrap_or_default();
        ask.extend(born.iter().map(|child| child.pid));
        found.extend(born);
    }
    found
}

/// Children of this process that have ended and wait to be reaped.
pub(super) fn ended_children() -> Vec<u32> {
    let own = std::process::id();
    let ended = processes().into_iter().filter(|it| it.parent == own && it.is_zombie);
    ended.map(|it| it.pid).collect()
}

/// A process and its descendants, as they are now.
pub(super) fn tree_of(pid: u32) -> Vec<u32> {
    of(pid).into_iter().map(|it| it.pid).chain([pid]).collect()
}

/// Signals a process group and single processes. Those that have ended meanwhile do not matter.
pub(super) fn signal(group: u32, pids: &[u32], signal: Signal) {
    if let Some(group) = as_pid(group) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
    for pid in pids.iter().filter_map(|pid| as_pid(*pid)) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A process id that can be signalled without meaning something else (0 and 1 would).
pub(super) fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_are_no_trouble() {
        let process = parse(7, "7 (a) Z 1 (x)) S 3 7 7 0").unwrap();
        assert_eq!(process, Process { pid: 7, parent: 3, is_zombie: false });
        assert!(parse(7, "7 (sh) Z 3 7").unwrap().is_zombie);
        assert_eq!(parse(7, ""), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let process = |pid, parent| Process { pid, parent, is_zombie: false };
        let all = [process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 5)];
        let mut pids: Vec<u32> = below(&all, 2).iter().map(|it| it.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [3, 4]);
    }
}
