//! What a server and everything that it started to keep sandboxes takes, the sandboxes' own programs aside.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// A server's process and the file that it runs: its spawner and every sandbox's init run the same one, programs of
/// sandboxes do not.
pub(super) struct Family {
    server: i32,
    program: (u64, u64),
}

impl Family {
    pub(super) fn of(server: i32) -> anyhow::Result<Self> {
        let program = program(server).context("the server's file can't be seen")?;
        Ok(Self { server, program })
    }

    /// The processes now.
    fn members(&self) -> anyhow::Result<Vec<i32>> {
        let parents = parents()?;
        let descends = |mut process: i32| loop {
            match parents.get(&process) {
                _ if process == self.server => return true,
                Some(&parent) => process = parent,
                None => return false,
            }
        };
        let ours = |process: &i32| descends(*process) && program(*process) == Some(self.program);
        Ok(parents.keys().copied().filter(ours).collect())
    }
}

/// Bytes: the proportional share of the server's family, and the kernel's own memory, of which every namespace, mount and
/// control group takes some. The latter is the whole machine's: other work beside the measurement shows in it.
pub(super) fn used(family: &Family) -> anyhow::Result<u64> {
    let shares = family.members()?.into_iter().filter_map(proportional_share);
    Ok(shares.sum::<u64>() + kernel()?)
}

/// `Pss` of proc_pid_smaps(5); none for a process that has just ended.
fn proportional_share(process: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    field(&rollup, "Pss:")
}

fn kernel() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    // Not `SReclaimable`: that is a cache, of whatever files anybody looks at.
    let fields = ["SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:"];
    Ok(fields.iter().filter_map(|name| field(&text, name)).sum())
}

/// A field of a file of proc(5) that is in kB, as bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn parents() -> anyhow::Result<HashMap<i32, i32>> {
    let numbers =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.filter_map(|process: i32| Some((process, parent(process)?))).collect())
}

fn parent(process: i32) -> Option<i32> {
    // Field 4 of proc_pid_stat(5), counted from after the name in parentheses.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Which file a process runs, by device and number.
fn program(process: i32) -> Option<(u64, u64)> {
    let link: PathBuf = Path::new("/proc").join(process.to_string()).join("exe");
    let file = fs::metadata(link).ok()?;
    Some((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_of_its_own_family_and_takes_memory() {
        let this = i32::try_from(std::process::id()).unwrap();
        let family = Family::of(this).unwrap();
        assert_eq!(family.members().unwrap(), [this]);
        assert!(proportional_share(this).unwrap() > 1 << 16);
    }
}
