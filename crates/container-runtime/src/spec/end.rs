//! How programs and containers end.

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// Code or signal.
    pub how: Exit,
    /// It was killed while the kernel was reclaiming memory of its container.
    pub oom: bool,
}

/// Code or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this.
    Code(i32),
    /// It was killed by this.
    Signal(i32),
}

impl ExitStatus {
    /// The code a shell shows: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_code(&self) -> i32 {
        match self.how {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Why a container's init is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to end, or its last handle was dropped.
    Terminated,
    /// The kernel killed init for lack of memory.
    OutOfMemory,
    /// Init ended by itself or by a stranger: a fault of the machine, never of the program.
    Failed(String),
    /// The runtime stopped.
    RuntimeGone,
}
