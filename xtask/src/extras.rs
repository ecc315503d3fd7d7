//! What commands give agents beside their prompt: skills and MCP servers.

use std::{collections::BTreeMap, path::PathBuf};

use sandbox_runner::{Extras, McpSource, Secret, SkillsSource};

use crate::{
    exit::UsageError,
    target::{Process, Surroundings as _},
};

/// Skills and MCP servers on the command line.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Skills and MCP servers")]
pub(crate) struct ExtrasArgs {
    /// Skills for the agents: DIR/.claude/skills/NAME/SKILL.md or DIR/NAME/SKILL.md, put into the
    /// sandboxes at /opt/skills
    #[arg(long, value_name = "DIR")]
    pub(crate) skills_dir: Option<PathBuf>,
    /// MCP servers for the agents, put into the sandboxes at /opt/mcp-config.json. Programs that they
    /// need must be in the image, which is checked first
    #[arg(long, value_name = "FILE")]
    pub(crate) mcp_config: Option<PathBuf>,
    /// Variables of this shell that ${NAME} in the MCP config may stand for; with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "mcp_config")]
    pub(crate) mcp_env: Vec<String>,
}

impl ExtrasArgs {
    /// Reads and checks what is named.
    pub(crate) fn read(&self) -> anyhow::Result<Extras> {
        let skills = self.skills_dir.as_deref().map(SkillsSource::read).transpose()?;
        let mcp = match &self.mcp_config {
            Some(path) => Some(McpSource::read(path, self.variables()?)?),
            None => None,
        };
        Ok(Extras { skills, mcp })
    }

    fn variables(&self) -> Result<BTreeMap<String, Secret>, UsageError> {
        let value = |name: &String| {
            if name == "OPENAI_API_KEY" {
                let text = "--mcp-env OPENAI_API_KEY: no MCP server gets the model's key";
                return Err(UsageError(text.to_owned()));
            }
            let value = Process.variable(name);
            let value =
                value.ok_or_else(|| UsageError(format!("--mcp-env {name}: it is not set")))?;
            Ok((name.clone(), Secret::new(value)))
        };
        self.mcp_env.iter().map(value).collect()
    }
}
