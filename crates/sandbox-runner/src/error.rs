use std::{path::PathBuf, time::Duration};

/// A cause whose type is no promise of this crate.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a run, or a part of it, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file of tasks can't be read.
    #[error("can't read the benchmark `{path}`")]
    ReadBenchmark {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of tasks is not JSON, or not an array.
    #[error("`{path}` is no benchmark: it must be a JSON array of tasks")]
    NotABenchmark {
        /// The file.
        path: PathBuf,
        /// Where the JSON goes wrong.
        source: serde_json::Error,
    },
    /// An array without tasks.
    #[error("`{path}` holds no task")]
    NoTasks {
        /// The file.
        path: PathBuf,
    },
    /// A task is wrong.
    #[error("task {position} of `{path}` is wrong: {reason}")]
    BadTask {
        /// The file.
        path: PathBuf,
        /// From 1.
        position: usize,
        /// What is wrong.
        reason: String,
    },
    /// A sandbox may not live as long as its task needs.
    #[error(
        "the task `{task}` may take too long: a sandbox lives a day at most, so that its timeout can be \
         {longest} s at most"
    )]
    TooLong {
        /// The task.
        task: eval_types::TaskId,
        /// The longest timeout that fits, in seconds.
        longest: u64,
    },
    /// A task would reach more than its run may.
    #[error(
        "the task `{task}` asks for network `{wanted}`, which reaches more than the run's `{allowed}`"
    )]
    WiderNetwork {
        /// The task.
        task: eval_types::TaskId,
        /// What it asks for.
        wanted: crate::Network,
        /// What the run may reach.
        allowed: crate::Network,
    },
    /// The file of prices is not JSON by model.
    #[error("`{path}` is no file of prices, as LiteLLM writes them")]
    NotPrices {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Two trials would write the same file.
    #[error("two trials would both be called `{name}`: give the tasks other ids")]
    DuplicateTrial {
        /// The name.
        name: String,
    },
    /// The sandbox, or what makes it, failed. Ours, never the agent's.
    #[error("can't {doing}")]
    Backend {
        /// What was tried, with its object: "create a sandbox".
        doing: String,
        /// Why.
        source: BoxError,
    },
    /// The sandbox, or what makes it, did not answer in time.
    #[error("can't {doing}: no answer within {} s", limit.as_secs())]
    Deadline {
        /// What was tried.
        doing: String,
        /// How long.
        limit: Duration,
    },
    /// The sandbox is there and can't do it: a program or a directory is missing in it. What an agent
    /// does inside can bring that about.
    #[error("can't {doing}")]
    Refused {
        /// What was tried.
        doing: String,
        /// Why.
        source: BoxError,
    },
    /// The run was ended before this was done.
    #[error("did not {doing} before the run was ended")]
    Stopped {
        /// What was to be done.
        doing: String,
    },
    /// The sandbox ended while it was needed.
    #[error("the sandbox `{sandbox}` was gone before the agent ended")]
    SandboxGone {
        /// The sandbox.
        sandbox: String,
    },
    /// The relay between sandbox and model can't listen or reach its clients.
    #[error("can't start the model relay")]
    Relay {
        /// Why.
        source: BoxError,
    },
    /// The local server refused to open the relay to sandboxes.
    #[error("can't {doing} the model relay at `{server}`")]
    RelayRegistration {
        /// `register`, `renew`.
        doing: &'static str,
        /// The local server.
        server: String,
        /// Why.
        source: BoxError,
    },
    /// The model's address is no URL.
    #[error("`{url}` is no address of a model: it must start with http:// or https://")]
    ModelUrl {
        /// As given.
        url: String,
    },
    /// The model's address holds what no part of a request can be made of.
    #[error(
        "`{url}` must be an address alone, without user, query or fragment; a key goes into OPENAI_API_KEY"
    )]
    ModelUrlParts {
        /// As given, a user left out.
        url: String,
    },
    /// The model's key can't be put into a request.
    #[error(
        "OPENAI_API_KEY holds a space, a line break or another character that no key has: set it again"
    )]
    KeyCharacters,
    /// Nothing answers at the model's address.
    #[error("no model answers at {url}")]
    ModelUnreachable {
        /// The address.
        url: String,
        /// Why.
        source: BoxError,
    },
    /// The model's server refuses the key.
    #[error("{url} refuses the key (status {status}): check OPENAI_API_KEY")]
    ModelKey {
        /// The address.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// The server knows no such model.
    #[error("{url} knows no model `{model}`; it has {}", known.join(", "))]
    UnknownModel {
        /// The address.
        url: String,
        /// The model asked for.
        model: String,
        /// Some of those it has.
        known: Vec<String>,
    },
    /// A file is no agent that the sandbox can run.
    #[error("`{path}` is no agent for this sandbox: {reason}")]
    BadAgent {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A directory without skills.
    #[error(
        "`{directory}` holds no skills: neither .claude/skills/NAME/SKILL.md nor NAME/SKILL.md"
    )]
    NoSkills {
        /// The directory.
        directory: PathBuf,
    },
    /// The file of MCP servers is not JSON.
    #[error("`{path}` is no MCP config: it must be JSON")]
    NotMcpConfig {
        /// The file.
        path: PathBuf,
        /// Where the JSON goes wrong.
        source: serde_json::Error,
    },
    /// The file of MCP servers names none.
    #[error("`{path}` names no MCP server")]
    NoMcpServers {
        /// The file.
        path: PathBuf,
    },
    /// The image lacks a program that an MCP server is started with.
    #[error(
        "MCP server `{server}` needs `{program}`, which the sandbox's image does not have: choose another --image, or another `command`"
    )]
    MissingProgram {
        /// The server.
        server: String,
        /// The program.
        program: String,
    },
    /// A file of this machine can't be read.
    #[error("can't read `{path}`")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// An error of the backend.
    pub fn backend(doing: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Backend { doing: doing.into(), source: source.into() }
    }

    /// Whether the same may succeed later: what it needs was not there, or did not answer.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Backend { source, .. } => source
                .downcast_ref::<modal_client::Error>()
                .is_none_or(modal_client::Error::is_transient),
            Self::Deadline { .. } | Self::SandboxGone { .. } | Self::RelayRegistration { .. } => {
                true
            }
            _ => false,
        }
    }

    /// The whole chain in one line, for a record.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
