//! Files of a sandbox, read and written by a tool of Modal's that is in every sandbox.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::exec::Exec;
use crate::{
    error::{BoxError, Error, Operation, Problem, Result},
    router::{Router, send_all},
};

/// The tool. Its argument is one JSON object; a failure is one on its error output.
const TOOL: &str = "/__modal/.bin/modal-sandbox-fs-tools";

/// The files of a sandbox; see [`Sandbox::files`](super::Sandbox::files).
#[derive(Clone)]
pub struct SandboxFiles {
    router: Router,
}

impl std::fmt::Debug for SandboxFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxFiles").field("sandbox", self.router.sandbox()).finish()
    }
}

/// A file, directory or link in a sandbox.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct SandboxFile {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Its length in bytes.
    pub size: u64,
    /// Its kind and permission bits, as `st_mode` of stat(2).
    #[serde(default)]
    pub mode: u32,
    /// Its permission bits as four octal digits, such as `0644`.
    #[serde(default)]
    pub permissions: String,
    /// Whose it is.
    #[serde(default)]
    pub owner: String,
    /// Whose group it is.
    #[serde(default)]
    pub group: String,
    /// When it was last changed, in seconds since 1970.
    #[serde(default)]
    modified_time: f64,
    /// Where a link points.
    #[serde(default)]
    pub symlink_target: Option<String>,
}

impl SandboxFile {
    /// When it was last changed.
    pub fn modified_at(&self) -> Option<SystemTime> {
        let since = Duration::try_from_secs_f64(self.modified_time).ok()?;
        UNIX_EPOCH.checked_add(since)
    }
}

/// What something in a sandbox's file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Something else.
    #[serde(other)]
    Other,
}

/// What the tool says about a failure: the source of the errors of [`SandboxFiles`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{message} ({error_kind})")]
#[non_exhaustive]
pub struct FileProblem {
    /// `NotFound`, `IsDirectory`, `FileTooLarge` and so on.
    pub error_kind: String,
    /// In words.
    pub message: String,
}

/// What of the tool's output is read, as Modal's clients do; errors are read in any case where it fails.
enum Reply {
    /// Nothing: the tool is given this input.
    Nothing(Bytes),
    /// What it says about a failure.
    Errors,
    /// Its output too.
    Output,
}

impl SandboxFiles {
    pub(super) fn new(router: Router) -> Self {
        Self { router }
    }

    /// The contents of a file.
    pub async fn read(&self, path: &str) -> Result<Bytes> {
        self.run("read", path, &json!({"ReadFile": {"path": path}}), Reply::Output)
            .await
            .map(Bytes::from)
    }

    /// The contents of a text file.
    pub async fn read_text(&self, path: &str) -> Result<String> {
        let bytes = self.read(path).await?;
        String::from_utf8(bytes.into()).map_err(|error| {
            let source: BoxError = error.utf8_error().into();
            Error::Invalid { operation: self.operation("read as text", path), source }
        })
    }

    /// Writes a file, with the directories above it.
    pub async fn write(&self, path: &str, data: impl Into<Bytes>) -> Result<()> {
        let command = json!({"WriteFile": {"path": path}});
        self.run("write", path, &command, Reply::Nothing(data.into())).await.map(drop)
    }

    /// Writes a file with the contents of a local one.
    pub async fn copy_from_local(
        &self,
        local: impl AsRef<std::path::Path>,
        path: &str,
    ) -> Result<()> {
        let local = local.as_ref();
        let data = tokio::fs::read(local).await;
        let data =
            data.map_err(|source| Error::file(self.operation("write", path), local, source))?;
        self.write(path, data).await
    }

    /// Writes a local file with the contents of one in the sandbox.
    pub async fn copy_to_local(
        &self,
        path: &str,
        local: impl AsRef<std::path::Path>,
    ) -> Result<()> {
        let local = local.as_ref();
        let data = self.read(path).await?;
        let written = tokio::fs::write(local, data).await;
        written.map_err(|source| Error::file(self.operation("read", path), local, source))
    }

    /// What is in a directory.
    pub async fn list(&self, path: &str) -> Result<Vec<SandboxFile>> {
        let printed =
            self.run("list", path, &json!({"ListFiles": {"path": path}}), Reply::Output).await?;
        self.parse("list", path, &printed)
    }

    /// About a file.
    pub async fn stat(&self, path: &str) -> Result<SandboxFile> {
        let printed =
            self.run("look at", path, &json!({"Stat": {"path": path}}), Reply::Output).await?;
        self.parse("look at", path, &printed)
    }

    /// Makes a directory; with `parents` also those above it, and it is no error if it exists.
    pub async fn make_directory(&self, path: &str, parents: bool) -> Result<()> {
        let command = json!({"MakeDirectory": {"path": path, "parents": parents}});
        self.run("make directory", path, &command, Reply::Errors).await.map(drop)
    }

    /// Removes a file; with `recursive` also a directory with everything in it.
    pub async fn remove(&self, path: &str, recursive: bool) -> Result<()> {
        let command = json!({"Remove": {"path": path, "recursive": recursive}});
        self.run("remove", path, &command, Reply::Errors).await.map(drop)
    }

    async fn run(
        &self,
        verb: &'static str,
        path: &str,
        command: &serde_json::Value,
        reply: Reply,
    ) -> Result<Vec<u8>> {
        let exec = Exec::new(self.router.clone(), vec![TOOL.to_owned(), command.to_string()]);
        let process = exec.start().await?;
        let (sent, stdout, mut stderr) = match reply {
            // Whatever is wrong with the input shows in how the tool ends.
            Reply::Nothing(input) => {
                (send_all(process.router(), process.id(), input).await, Vec::new(), Vec::new())
            }
            Reply::Errors => (Ok(()), Vec::new(), process.stderr().read_bytes().await?),
            Reply::Output => {
                let (stdout, stderr) =
                    tokio::try_join!(process.stdout().read_bytes(), process.stderr().read_bytes())?;
                (Ok(()), stdout, stderr)
            }
        };
        let code = process.wait().await?;
        if code == 0 {
            return sent.map(|()| stdout);
        }
        if stderr.is_empty() {
            stderr = process.stderr().read_bytes().await?;
        }
        Err(self.failed(verb, path, code, &stderr))
    }

    fn failed(&self, verb: &'static str, path: &str, code: i32, stderr: &[u8]) -> Error {
        let operation = self.operation(verb, path);
        let Ok(problem) = serde_json::from_slice::<FileProblem>(stderr) else {
            let said = String::from_utf8_lossy(stderr);
            let text = format!("the file system tool ended with code {code}: {}", said.trim());
            return Error::Server { operation, source: Box::new(Problem(text)) };
        };
        let kind = problem.error_kind.clone();
        let source: BoxError = Box::new(problem);
        match kind.as_str() {
            "NotFound" => Error::NotFound { operation, source },
            "AlreadyExists" | "PathAlreadyExists" => Error::AlreadyExists { operation, source },
            "PermissionDenied" => Error::Permission { operation, source },
            "Io" => Error::Server { operation, source },
            _ => Error::Invalid { operation, source },
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(
        &self,
        verb: &'static str,
        path: &str,
        printed: &[u8],
    ) -> Result<T> {
        serde_json::from_slice(printed).map_err(|error| Error::Protocol {
            operation: self.operation(verb, path),
            source: error.into(),
        })
    }

    fn operation(&self, verb: &'static str, path: &str) -> Operation {
        Operation::new(verb, format!("`{path}` in sandbox `{}`", self.router.sandbox()))
    }
}
