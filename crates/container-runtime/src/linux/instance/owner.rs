//! Whose an instance is, as its name tells.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "goat-";

/// The process that made an instance, so that no other one is taken for it, whatever ids are used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The beginning of the boot's id.
    boot: String,
    pid: u32,
    /// Clock ticks from the boot to its start.
    start: u64,
    /// In which its id means it: the number of the namespace's file.
    pid_namespace: u64,
}

impl Owner {
    /// This process.
    pub(super) fn myself() -> Self {
        Self::of_process(std::process::id()).unwrap_or_else(|| Self {
            boot: boot(),
            pid: std::process::id(),
            start: 0,
            pid_namespace: 0,
        })
    }

    /// A process of this namespace; none if there is none that runs.
    pub(super) fn of_process(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The fields after the name, which may hold anything, begin with the third.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        let is_dead = matches!(state, "Z" | "X");
        (!is_dead).then(|| Self { boot: boot(), pid, start, pid_namespace: pid_namespace() })
    }

    /// Of an instance with this name; `None` if it is no instance's, or does not tell enough.
    pub(super) fn of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let (boot, pid, start) = (parts.next()?.to_owned(), parts.next()?, parts.next()?);
        let (_count, pid_namespace) = (parts.next()?, parts.next()?);
        Some(Self {
            boot,
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
            pid_namespace: pid_namespace.parse().ok()?,
        })
    }

    /// A name that no other instance has.
    pub(super) fn instance_name(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let Self { boot, pid, start, pid_namespace } = self;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}{boot}-{pid}-{start}-{count}-{pid_namespace}")
    }

    /// Whether it certainly runs no more. Of processes in other namespaces nobody here can tell.
    pub(super) fn is_gone(&self) -> bool {
        let is_known = self.pid_namespace != 0 && self.pid_namespace == pid_namespace();
        is_known && self.start != 0 && Self::of_process(self.pid).as_ref() != Some(self)
    }
}

fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.chars().filter(char::is_ascii_hexdigit).take(8).collect()
}

/// From a link like `pid:[4026531836]`; 0 if it cannot be read.
fn pid_namespace() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let number: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    number.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        let own = Owner::myself();
        assert_eq!(Owner::of(&own.instance_name()), Some(own.clone()));
        assert_ne!(own.instance_name(), own.instance_name());
        assert!(!own.is_gone());
        let earlier = Owner { start: own.start - 1, ..own.clone() };
        assert!(earlier.is_gone(), "the id is used again");
        assert!(!Owner { pid_namespace: 1, ..earlier.clone() }.is_gone());
        for bad in ["", "goat-", "goat-0-1-2-3", "other-9acc3d5b-1-2-0-3", "goat-a-b-c-d-e"] {
            assert_eq!(Owner::of(bad), None, "{bad}");
        }
    }
}
