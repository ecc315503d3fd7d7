//! What a conversation begins with: everything of the flags that can be wrong before the model is asked.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Run, output_error};
use crate::{
    cli::Arguments,
    error::{Error, Result},
    mcp::{self, config::ServerConfig},
    progress::Progress,
    prompt::SystemPrompt,
    skills::Skills,
    tool::Workspace,
};

/// What a conversation begins with, as far as it is files and flags.
pub(super) struct Start {
    pub(super) system_prompt: SystemPrompt,
    pub(super) skills: Option<Arc<Skills>>,
    pub(super) servers: Option<Vec<ServerConfig>>,
    pub(super) workspace: Workspace,
}

/// Relative files count from where the agent was started, whatever directory it works in.
pub(super) fn make_absolute(arguments: &mut Arguments) {
    let paths = [
        &mut arguments.transcript,
        &mut arguments.summary,
        &mut arguments.system_prompt,
        &mut arguments.skills_dir,
        &mut arguments.mcp_config,
    ];
    for path in paths.into_iter().flatten() {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
}

impl Run {
    /// Reads what the flags name, begins the transcript and enters the directory.
    pub(super) fn prepare(&mut self) -> Result<Start> {
        let servers = self.servers()?;
        let path = self.arguments.transcript.clone();
        let begun = self.recorder.transcript.begin(path.as_deref(), self.redactor.clone());
        begun.map_err(|source| output_error("transcript", path, source))?;
        if let Some(error) = self.wrong.take() {
            return Err(error);
        }
        Ok(Start {
            system_prompt: self.system_prompt()?,
            skills: self.skills()?,
            servers,
            workspace: enter(self.arguments.cwd.clone())?,
        })
    }

    fn system_prompt(&self) -> Result<SystemPrompt> {
        let Some(path) = &self.arguments.system_prompt else {
            return Ok(self.profile.system_prompt());
        };
        SystemPrompt::read(path).map_err(|source| input_error("system prompt", path, source))
    }

    /// The servers of the MCP config. What is secret in it is masked from here on.
    fn servers(&mut self) -> Result<Option<Vec<ServerConfig>>> {
        let Some(path) = self.arguments.mcp_config.clone() else { return Ok(None) };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| input_error("MCP config", &path, source))?;
        let servers = mcp::config::parse(&text, &self.variables)
            .map_err(|source| Error::McpConfig { path, source })?;
        self.redactor = self.redactor.with(servers.iter().flat_map(ServerConfig::secrets));
        self.progress = Progress::new(self.redactor.clone());
        Ok(Some(servers))
    }

    fn skills(&self) -> Result<Option<Arc<Skills>>> {
        let Some(path) = &self.arguments.skills_dir else { return Ok(None) };
        let skills = Skills::load(path)
            .map_err(|source| input_error("directory of skills", path, source))?;
        Ok(Some(Arc::new(skills)))
    }
}

fn input_error(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Input { what, path: path.to_owned(), source }
}

/// Makes `cwd` the working directory of this process.
fn enter(cwd: Option<PathBuf>) -> Result<Workspace> {
    let path = cwd.unwrap_or_else(|| PathBuf::from("."));
    let entered = std::env::set_current_dir(&path).and_then(|()| std::env::current_dir());
    let cwd = entered.map_err(|source| Error::WorkingDirectory { path, source })?;
    Ok(Workspace { cwd })
}
