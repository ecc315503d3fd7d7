//! How a sandbox ended, in Modal's terms.

use container_runtime::ExitStatus;
use modal_proto::client::GenericResult;
use modal_proto::client::generic_result::GenericStatus;

/// What a shell reports for a program killed by SIGKILL; Modal reports terminated sandboxes so.
const KILLED: i32 = 137;
/// What `timeout(1)` and Modal's SDKs report for a time-out.
const TIMED_OUT: i32 = 124;

/// The end of a sandbox. Every sandbox has exactly one, also where the server was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) status: GenericStatus,
    pub(crate) exit_code: i32,
    /// A sentence for people; empty where the status says everything.
    pub(crate) reason: String,
}

impl Ending {
    fn new(status: GenericStatus, exit_code: i32, reason: impl Into<String>) -> Self {
        Self { status, exit_code, reason: reason.into() }
    }

    /// The entrypoint ended by itself.
    pub(crate) fn exited(exit: ExitStatus) -> Self {
        use GenericStatus::{Failure, Success};
        match exit.shell_code() {
            code if exit.oom => Self { exit_code: code, ..Self::out_of_memory() },
            0 => Self::new(Success, 0, ""),
            code => Self::new(Failure, code, ""),
        }
    }

    /// The entrypoint could not be started; `exit_code` is what a shell would report.
    pub(crate) fn not_started(exit_code: i32, reason: impl Into<String>) -> Self {
        Self::new(GenericStatus::Failure, exit_code, reason)
    }

    /// The sandbox never came up.
    pub(crate) fn init_failure(reason: impl Into<String>) -> Self {
        Self::new(GenericStatus::InitFailure, 1, reason)
    }

    /// The kernel ended it because it reached its memory limit.
    pub(crate) fn out_of_memory() -> Self {
        let reason = "out of memory: the sandbox reached its memory limit";
        Self::new(GenericStatus::KernelOomKill, KILLED, reason)
    }

    /// It has written more than it may. `excess` is a sentence.
    pub(crate) fn disk_full(excess: &str) -> Self {
        Self::new(GenericStatus::Failure, KILLED, format!("out of disk: {excess}"))
    }

    pub(crate) fn timeout() -> Self {
        Self::new(GenericStatus::Timeout, TIMED_OUT, "")
    }

    pub(crate) fn idle_timeout() -> Self {
        Self::new(GenericStatus::IdleTimeout, KILLED, "the sandbox was idle for its idle timeout")
    }

    pub(crate) fn terminated(reason: impl Into<String>) -> Self {
        Self::new(GenericStatus::Terminated, KILLED, reason)
    }

    /// Ours, not the program's failure.
    pub(crate) fn internal(reason: impl Into<String>) -> Self {
        Self::new(GenericStatus::InternalFailure, KILLED, reason)
    }

    pub(crate) fn result(&self) -> GenericResult {
        GenericResult {
            status: self.status.into(),
            exitcode: self.exit_code,
            exception: self.reason.clone(),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use container_runtime::Exit;

    use super::*;

    #[test]
    fn exits_become_the_results_that_the_sdks_read() {
        let ended = |how, oom| {
            let Ending { status, exit_code, .. } = Ending::exited(ExitStatus { how, oom });
            (status, exit_code)
        };
        assert_eq!(ended(Exit::Code(0), false), (GenericStatus::Success, 0));
        assert_eq!(ended(Exit::Code(7), false), (GenericStatus::Failure, 7));
        assert_eq!(ended(Exit::Signal(15), false), (GenericStatus::Failure, 143));
        assert_eq!(ended(Exit::Signal(9), true), (GenericStatus::KernelOomKill, 137));
    }
}
