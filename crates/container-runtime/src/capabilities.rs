//! What this machine lets the runtime do, probed once at start.

use std::fmt;

use serde::Serialize;

/// The probe's result; `Display` is one line for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// How far containers are isolated.
    pub mode: Mode,
    /// What enforces limits.
    pub limits: LimitsBackend,
    /// A program and all it started can be killed together through a control group of its own;
    /// otherwise its session and its descendants are.
    pub exec_groups: bool,
    /// Containers can be given a network (`/dev/net/tun` can be opened).
    pub tun: bool,
    /// What is missing, one sentence each.
    pub notes: Vec<String>,
}

/// How far containers are isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As root: each container has its own range of 65,536 user ids, and its namespaces belong to the machine.
    Full,
    /// As an ordinary user: root inside is the caller outside, other ids do not exist, and one
    /// kernel fault less has to be crossed to reach the caller's files.
    UserNs,
}

/// What enforces limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitsBackend {
    /// Control groups, version 2.
    V2,
    /// Control groups, version 1.
    V1,
    /// Limits of each process; no limit on the sum, none on CPU.
    Rlimits,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Full => "full isolation (as root, own user ids for each container)",
            Mode::UserNs => "isolation by user namespace (root inside is you outside)",
        };
        let limits = match self.limits {
            LimitsBackend::V2 => "cgroup v2",
            LimitsBackend::V1 => "cgroup v1",
            LimitsBackend::Rlimits => "limits of single processes only",
        };
        let network = if self.tun { "network available" } else { "no network" };
        write!(f, "{mode}, {limits}, {network}")?;
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_is_in_force() {
        let capabilities = Capabilities {
            mode: Mode::Full,
            limits: LimitsBackend::V1,
            exec_groups: true,
            tun: false,
            notes: vec!["/dev/net/tun is missing".to_owned()],
        };
        let line = "full isolation (as root, own user ids for each container), cgroup v1, no network; /dev/net/tun is missing";
        assert_eq!(capabilities.to_string(), line);
    }
}
