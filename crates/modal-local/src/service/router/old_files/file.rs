//! Operations on one file, or on one path.

use std::collections::HashMap;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tonic::Status;

use super::messages::{Open, PathAnd, Seek, SystemError};
use crate::ctx::Ctx;
use crate::fs_tools;
use crate::ids::TaskId;
use crate::sandbox::{Command, OutputTo, RunningProcess};
use crate::service::router::host::{Host, Surroundings};

/// Bytes of one read, at most: the SDK's own limit.
const LARGEST_READ: u64 = 100 << 20;

/// The bytes that an operation answers, or why it failed.
pub(super) type Outcome = Result<Vec<u8>, SystemError>;

/// A file that somebody has opened. Clients that never close it keep nothing of its container.
pub(super) struct OpenFile {
    task: TaskId,
    path: String,
    position: u64,
    reads: bool,
    writes: bool,
    appends: bool,
}

impl OpenFile {
    /// Opens or makes it, as Python's modes have it.
    pub(super) async fn open(
        ctx: &Ctx,
        task: TaskId,
        open: &Open,
    ) -> Result<Result<Self, SystemError>, Status> {
        let host = Host::find(ctx, &task)?;
        let has = |letter| open.mode.contains(letter);
        let command = json!({"Open": {"path": open.path, "mode": open.mode}});
        let opened = tool(ctx, &host, &command, Vec::new()).await?;
        Ok(opened.map(|_| Self {
            task,
            path: open.path.clone(),
            position: 0,
            reads: has('r') || has('+'),
            writes: has('w') || has('a') || has('x') || has('+'),
            appends: has('a'),
        }))
    }

    /// Reads up to `n` bytes, or all that is left; with `line`, to the end of the line.
    pub(super) async fn read(
        &mut self,
        ctx: &Ctx,
        n: Option<u32>,
        line: bool,
    ) -> Result<Outcome, Status> {
        if !self.reads {
            return Ok(Err(not_for("reading")));
        }
        let most = n.map_or(LARGEST_READ, u64::from).min(LARGEST_READ);
        let range = json!({"path": self.path, "offset": self.position, "most": most, "line": line});
        let host = Host::find(ctx, &self.task)?;
        let outcome = tool(ctx, &host, &json!({ "ReadAt": range }), Vec::new()).await?;
        if let Ok(data) = &outcome {
            self.position += data.len() as u64;
        }
        Ok(outcome)
    }

    pub(super) async fn write(&mut self, ctx: &Ctx, data: Vec<u8>) -> Result<Outcome, Status> {
        if !self.writes {
            return Ok(Err(not_for("writing")));
        }
        let offset = if self.appends { Value::Null } else { self.position.into() };
        let command = json!({"WriteAt": {"path": self.path, "offset": offset}});
        let outcome = tool(ctx, &Host::find(ctx, &self.task)?, &command, data).await?;
        Ok(outcome.and_then(|end| {
            self.position = number(&end)?;
            Ok(Vec::new())
        }))
    }

    pub(super) async fn seek(&mut self, ctx: &Ctx, seek: &Seek) -> Result<Outcome, Status> {
        let from = match seek.whence {
            0 => 0,
            1 => self.position,
            _ => {
                let command =
                    json!({"ReadAt": {"path": self.path, "offset": 0, "most": 0, "size": true}});
                let host = Host::find(ctx, &self.task)?;
                match tool(ctx, &host, &command, Vec::new()).await?.and_then(|it| number(&it)) {
                    Ok(size) => size,
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        Ok(match from.checked_add_signed(seek.offset.into()) {
            Some(position) => {
                self.position = position;
                Ok(Vec::new())
            }
            None => {
                Err(SystemError { error_code: 22, error_message: "Invalid argument".to_owned() })
            }
        })
    }
}

/// The names in a directory.
pub(super) async fn list(ctx: &Ctx, host: &Host, path: &str) -> Result<Outcome, Status> {
    let listed = tool(ctx, host, &json!({"ListFiles": {"path": path}}), Vec::new()).await?;
    Ok(listed.map(|json| {
        let entries: Vec<HashMap<String, Value>> =
            serde_json::from_slice(&json).unwrap_or_default();
        let names: Vec<&Value> = entries.iter().filter_map(|entry| entry.get("name")).collect();
        json!({ "paths": names }).to_string().into_bytes()
    }))
}

pub(super) async fn make_directory(
    ctx: &Ctx,
    host: &Host,
    it: &PathAnd,
) -> Result<Outcome, Status> {
    let command = json!({"MakeDirectory": {"path": it.path, "parents": it.all}});
    tool(ctx, host, &command, Vec::new()).await
}

pub(super) async fn remove(ctx: &Ctx, host: &Host, it: &PathAnd) -> Result<Outcome, Status> {
    tool(ctx, host, &json!({"Remove": {"path": it.path, "recursive": it.all}}), Vec::new()).await
}

/// Runs one command of the file tools inside.
async fn tool(ctx: &Ctx, host: &Host, command: &Value, input: Vec<u8>) -> Result<Outcome, Status> {
    ctx.room.check()?;
    let in_use = host.begin();
    let Surroundings { container, env, workdir, spill_dir } = host.surroundings()?;
    let command = Command {
        argv: vec![fs_tools::PATH.to_owned(), command.to_string()],
        env,
        workdir,
        stdout: OutputTo::Log,
        stderr: OutputTo::Log,
        terminal: None,
        timeout: None,
    };
    let process = RunningProcess::start(&container, command, &spill_dir, in_use).await;
    let process = process.map_err(|error| Status::unavailable(error.to_string()))?;
    // A command that fails reads no input; its own words say why.
    let _ = process.stdin.append(&input, true).await;
    let exit = process.wait().await;
    let text = |log: &container_runtime::stream::OutputLog| log.read_from(0).collect::<Vec<_>>();
    let (stdout, stderr) = tokio::join!(text(&process.stdout), text(&process.stderr));
    let joined = |chunks: Vec<container_runtime::stream::Chunk>| {
        chunks.iter().flat_map(|chunk| chunk.data.iter().copied()).collect::<Vec<u8>>()
    };
    Ok(if exit.shell_code() == 0 { Ok(joined(stdout)) } else { Err(failure(&joined(stderr))) })
}

/// What the tools say of their failure, in the words of the older API.
fn failure(stderr: &[u8]) -> SystemError {
    let said: Value = serde_json::from_slice(stderr).unwrap_or_default();
    let error_code = match said["error_kind"].as_str().unwrap_or_default() {
        "NotFound" => 2,
        "PermissionDenied" => 13,
        "AlreadyExists" | "PathAlreadyExists" => 17,
        "NotDirectory" => 20,
        "IsDirectory" => 21,
        "FileTooLarge" => 27,
        "Io" => 5,
        _ => 0,
    };
    let message = said["message"].as_str().unwrap_or("the file tools ended without a word");
    SystemError { error_code, error_message: message.to_owned() }
}

fn not_for(what: &str) -> SystemError {
    SystemError { error_code: 22, error_message: format!("the file is not open for {what}") }
}

fn number(text: &[u8]) -> Result<u64, SystemError> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| SystemError {
        error_code: 5,
        error_message: "the file tools answered no number".to_owned(),
    })
}
