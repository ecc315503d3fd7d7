//! Exit codes, the same for every command.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for is so.
    Ok,
    /// It ran, and something failed: a task, a check.
    Failed,
    /// The arguments make no sense. (clap uses the same code.)
    Usage,
    /// It could not run, or its results could not be kept: the server, the disk, a key.
    Infrastructure,
    /// Ctrl-C.
    Cancelled,
}

/// For `--help`.
pub(crate) const HELP: &str = "\
Exit codes: 0 all well, 1 a task or a check failed, 2 wrong usage, 3 infrastructure, 130 cancelled";

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Infrastructure => 3,
            Self::Cancelled => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A mistake of the user that arguments alone do not show.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Ctrl-C where nothing had begun.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(crate) struct Cancelled;

/// The exit code for an error that ends a command.
pub(crate) fn of_error(error: &anyhow::Error) -> Exit {
    use sandbox_runner::Error as Runner;
    if error.chain().any(|cause| cause.is::<Cancelled>()) {
        return Exit::Cancelled;
    }
    use goat_services::Error as Setup;
    let usage = error.chain().any(|cause| {
        cause.is::<UsageError>()
            || matches!(
                cause.downcast_ref::<Setup>(),
                Some(Setup::ReadFile { .. } | Setup::ParseFile { .. } | Setup::UnknownKey { .. })
            )
            || matches!(
                cause.downcast_ref::<Runner>(),
                Some(
                    Runner::ReadBenchmark { .. }
                        | Runner::NotABenchmark { .. }
                        | Runner::NoTasks { .. }
                        | Runner::BadTask { .. }
                        | Runner::DuplicateTrial { .. }
                        | Runner::TooLong { .. }
                        | Runner::WiderNetwork { .. }
                        | Runner::ModelUrl { .. }
                        | Runner::ModelUrlParts { .. }
                        | Runner::KeyCharacters
                        | Runner::BadAgent { .. }
                        | Runner::ReadFile { .. }
                        | Runner::NoSkills { .. }
                        | Runner::NotMcpConfig { .. }
                        | Runner::NotPrices { .. }
                        | Runner::NoMcpServers { .. }
                        | Runner::MissingProgram { .. }
                )
            )
    });
    if usage { Exit::Usage } else { Exit::Infrastructure }
}
