//! How much a container may take of this machine where its definition does not say: sandboxes,
//! containers of functions and build steps alike.
//!
//! Memory, processes and the size of a file are the kernel's to limit. What a container has written
//! in all is measured by [`super::disk_watch`].

use container_runtime::{Limits, LimitsBackend, Runtime};

use crate::room::{Room, amount};

/// Of this machine's memory a sandbox gets so many quarters.
const MEMORY_QUARTERS: u64 = 3;
/// What a sandbox may write at most unless it asks for more.
const MAX_DISK: u64 = 16 << 30;
/// Files and directories it may make.
const MAX_FILES: u64 = 1_000_000;
/// Without asking it gets at most this part of the state disk.
const DISK_SHARE: u64 = 2;

/// What a sandbox may write in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskLimit {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

impl DiskLimit {
    /// What was asked for, else a share of the state directory's disk.
    pub(crate) fn new(room: &Room, asked: Option<u64>) -> Self {
        let share = || room.space().map_or(MAX_DISK, |disk| (disk.size / DISK_SHARE).min(MAX_DISK));
        Self { bytes: asked.unwrap_or_else(share), files: MAX_FILES }
    }
}

/// The limits in force: those asked for, and defaults relative to the machine for the others.
///
/// Where only single processes can be limited there is no default for memory: a limit of the address
/// space breaks programs that reserve much and use little.
pub(crate) fn limits(asked: &Limits, disk: DiskLimit, runtime: &Runtime) -> Limits {
    let limits = asked.clone();
    let default = match runtime.capabilities().limits {
        LimitsBackend::Rlimits => None,
        LimitsBackend::V1 | LimitsBackend::V2 => runtime.memory().map(share_of_memory),
    };
    Limits {
        memory: limits.memory.or(default),
        file_size: limits.file_size.or(Some(disk.bytes)),
        ..limits
    }
}

fn share_of_memory(memory: u64) -> u64 {
    memory / 4 * MEMORY_QUARTERS
}

/// One line for people: what a sandbox gets that asks for nothing.
pub(crate) fn describe(room: &Room, runtime: &Runtime) -> String {
    let disk = DiskLimit::new(room, None);
    let limits = limits(&Limits::default(), disk, runtime);
    let memory = match limits.memory {
        Some(bytes) => format!("{} of memory", amount(bytes)),
        None => "no limit on memory".to_owned(),
    };
    let pids = limits.pids.map(|count| format!(", {count} processes")).unwrap_or_default();
    format!("{memory}{pids}, {}", describe_disk(disk))
}

/// One phrase for people.
pub(crate) fn describe_disk(disk: DiskLimit) -> String {
    format!("{} of disk in {} files", amount(disk.bytes), disk.files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gets_three_quarters_of_the_memory() {
        assert_eq!(share_of_memory(8 << 30), 6 << 30);
    }

    #[test]
    fn the_disk_in_a_phrase() {
        let limit = DiskLimit { bytes: 16 << 30, files: 1_000 };
        assert_eq!(describe_disk(limit), "16.0 GiB of disk in 1000 files");
    }
}
