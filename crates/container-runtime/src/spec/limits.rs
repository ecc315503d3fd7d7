//! What a container may use, and what it has used.

/// Hard limits; a request (a soft limit) is not the runtime's business.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of memory; above it the kernel kills a program of the container.
    pub memory: Option<u64>,
    /// Cores, 0.5 being half of one.
    pub cpu: Option<f64>,
    /// Processes and threads together.
    pub pids: Option<u64>,
    /// Bytes of one file; a program that writes more gets `SIGXFSZ`. A limit of each process.
    pub file_size: Option<u64>,
}

impl Default for Limits {
    /// No limit on memory, CPU and files; 4,096 processes, so that a fork bomb stays in its box.
    fn default() -> Self {
        Self { memory: None, cpu: None, pids: Some(4096), file_size: None }
    }
}

/// What a container has used so far. `None` where the limits back end does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Option<std::time::Duration>,
    /// Bytes now.
    pub memory: Option<u64>,
    /// Most bytes so far.
    pub memory_peak: Option<u64>,
    /// Processes now.
    pub pids: Option<u64>,
}
