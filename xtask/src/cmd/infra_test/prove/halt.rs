//! Stops a process of a container for a while.
//!
//! Containers of the local target are processes of this machine, below the server's. SIGSTOP makes a service hang as a
//! real one does: it is there, its port takes connections, and nothing answers.

use super::super::sabotage::Program;
use crate::context::Context;

#[cfg(target_os = "linux")]
pub(super) use linux::Halted;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use anyhow::{Context as _, bail};
    use rustix::process::{Pid, Signal, kill_process};

    use super::{Context, Program};
    use crate::local_server::LocalServer;

    /// A process that is stopped until this is dropped.
    pub(in super::super) struct Halted(Option<Pid>);

    impl Halted {
        /// Finds the process and stops it.
        pub(in super::super) async fn new(
            program: Program,
            context: &Context,
        ) -> anyhow::Result<Self> {
            let server = LocalServer::of(context).pid().await?;
            let server = server.context("no local server runs")?;
            let found: Vec<i32> = processes()
                .into_iter()
                .filter(|process| {
                    is_meant(program, &process.words) && descends(process.pid, server)
                })
                .map(|process| process.pid)
                .collect();
            let [pid] = found[..] else {
                bail!("{} processes below the server are {program:?}", found.len())
            };
            let pid = Pid::from_raw(pid).context("a process has no number")?;
            kill_process(pid, Signal::STOP).with_context(|| format!("can't stop {program:?}"))?;
            Ok(Self(Some(pid)))
        }

        /// Lets it go on.
        pub(in super::super) fn resume(mut self) -> anyhow::Result<()> {
            match self.0.take() {
                Some(pid) => kill_process(pid, Signal::CONT).context("can't resume a process"),
                None => Ok(()),
            }
        }
    }

    impl Drop for Halted {
        fn drop(&mut self) {
            if let Some(pid) = self.0 {
                // Already reported where it matters: `resume`.
                let _ = kill_process(pid, Signal::CONT);
            }
        }
    }

    struct Process {
        pid: i32,
        words: Vec<String>,
    }

    /// Those whose command line can be read.
    fn processes() -> Vec<Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let process = |pid: i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            let words = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            Some(Process { pid, words })
        };
        numbers.filter_map(process).collect()
    }

    fn is_meant(program: Program, words: &[String]) -> bool {
        let first = |end: &str| words.first().is_some_and(|word| word.ends_with(end));
        let any = |end: &str| words.iter().any(|word| word.ends_with(end));
        match program {
            // A script: the interpreter comes first.
            Program::Litellm => any("/litellm") && any("--config"),
            Program::Langfuse => first("/langfuse-local") || any("web/server.js"),
            // The server's own children call themselves `postgres: …`.
            Program::Postgres => first("/postgres"),
        }
    }

    fn descends(mut pid: i32, from: i32) -> bool {
        // Far deeper than any container.
        for _ in 0..32 {
            if pid == from {
                return true;
            }
            match parent(pid) {
                Some(above) if above > 1 => pid = above,
                _ => return false,
            }
        }
        false
    }

    fn parent(pid: i32) -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse().ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn words(line: &str) -> Vec<String> {
            line.split(' ').map(str::to_owned).collect()
        }

        #[test]
        fn services_are_known_and_their_helpers_are_not_taken_for_them() {
            let litellm = "/usr/local/bin/python /usr/local/bin/litellm --config /goat/config.yaml";
            assert!(is_meant(Program::Litellm, &words(litellm)));
            assert!(!is_meant(
                Program::Litellm,
                &words("/goat/service-supervisor run /goat/plan.json")
            ));
            let server = "/usr/lib/postgresql/15/bin/postgres -D /var/lib/goat/postgres/data";
            assert!(is_meant(Program::Postgres, &words(server)));
            assert!(!is_meant(Program::Postgres, &words("postgres: checkpointer")));
        }

        #[test]
        fn this_process_descends_from_its_parent() {
            let own = i32::try_from(std::process::id()).unwrap();
            assert!(descends(own, own) && descends(own, parent(own).unwrap()));
            assert!(!descends(parent(own).unwrap(), own));
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) struct Halted;

#[cfg(not(target_os = "linux"))]
impl Halted {
    pub(super) async fn new(_: Program, _: &Context) -> anyhow::Result<Self> {
        anyhow::bail!("the local target needs Linux")
    }

    pub(super) fn resume(self) -> anyhow::Result<()> {
        Ok(())
    }
}
