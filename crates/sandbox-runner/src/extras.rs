//! What agents are given beside their prompt: skills, MCP servers, and what traces need.
//!
//! A directory of skills and an MCP config are read on this machine, checked, and lie in a sandbox at [`SKILLS`] and
//! [`MCP_CONFIG`] if its trial's variant has them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use eval_types::Variant;
use serde_json::{Map, Value};

use crate::{Error, Result, backend::WORKSPACE, secret::Secret};

/// Where skills lie in a sandbox.
pub const SKILLS: &str = "/opt/skills";
/// Where the MCP config lies in a sandbox.
pub const MCP_CONFIG: &str = "/opt/mcp-config.json";
/// Where a project keeps its skills.
const IN_PROJECT: &str = ".claude/skills";
/// A skill's file.
const SKILL_FILE: &str = "SKILL.md";

/// What agents of a run are given, where their variant has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// Skills.
    pub skills: Option<SkillsSource>,
    /// MCP servers.
    pub mcp: Option<McpSource>,
}

impl Extras {
    /// The variant that has all of it.
    pub fn variant(&self) -> Variant {
        Variant::of(self.skills.is_some(), self.mcp.is_some())
    }
}

/// A directory of skills of this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct SkillsSource {
    /// The directory as it was given.
    pub directory: PathBuf,
    /// Its parts that are put into sandboxes: a directory here, and where it lies there.
    pub trees: Vec<(PathBuf, String)>,
}

impl SkillsSource {
    /// Looks for skills in `<dir>/.claude/skills` and in `<dir>` itself, as the agent does. Of a whole project only
    /// its skills are taken.
    pub fn read(directory: &Path) -> Result<Self> {
        let entries = std::fs::read_dir(directory)
            .map_err(|source| Error::ReadFile { path: directory.to_owned(), source })?;
        let mut trees = Vec::new();
        if directory.join(IN_PROJECT).is_dir() {
            trees.push((directory.join(IN_PROJECT), format!("{SKILLS}/{IN_PROJECT}")));
        }
        if directory.join(SKILL_FILE).is_file() {
            trees.push((directory.to_owned(), SKILLS.to_owned()));
        } else {
            let folders = entries.flatten().map(|entry| entry.path());
            let skills = folders.filter(|folder| folder.join(SKILL_FILE).is_file());
            let named = skills.filter_map(|folder| {
                let name = folder.file_name()?.to_str()?.to_owned();
                Some((folder, format!("{SKILLS}/{name}")))
            });
            trees.extend(named);
        }
        trees.sort();
        if trees.is_empty() {
            return Err(Error::NoSkills { directory: directory.to_owned() });
        }
        Ok(Self { directory: directory.to_owned(), trees })
    }
}

/// A file of MCP servers of this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct McpSource {
    /// The file as it was given.
    pub path: PathBuf,
    /// The programs that its servers need: server and program.
    pub programs: Vec<(String, String)>,
    /// Variables that `${NAME}` in it may stand for, with their values.
    pub variables: BTreeMap<String, Secret>,
}

impl McpSource {
    /// Reads the file, as far as it says which programs are needed; the agent reads the rest.
    pub fn read(path: &Path, variables: BTreeMap<String, Secret>) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|source| Error::ReadFile { path: path.to_owned(), source })?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|source| Error::NotMcpConfig { path: path.to_owned(), source })?;
        let servers = servers(&value).filter(|servers| !servers.is_empty());
        let servers = servers.ok_or_else(|| Error::NoMcpServers { path: path.to_owned() })?;
        let is_on = |server: &&Value| server["disabled"] != Value::Bool(true);
        let programs =
            servers.iter().filter(|(_, server)| is_on(server)).filter_map(|(name, server)| {
                let program =
                    server["command"].as_str().filter(|program| can_be_checked(program))?;
                Some((name.clone(), program.to_owned()))
            });
        Ok(Self { path: path.to_owned(), programs: programs.collect(), variables })
    }
}

/// The servers in either shape: flat, or below `mcpServers`.
fn servers(value: &Value) -> Option<&Map<String, Value>> {
    let is_server = |value: &Value| value["command"].is_string() || value["url"].is_string();
    match value.get("mcpServers") {
        Some(inner) if !is_server(inner) => inner.as_object(),
        _ => value.as_object(),
    }
}

/// Whether the image alone decides if a program is there: a task's own files come later, and a variable's value is
/// the agent's to put in.
fn can_be_checked(program: &str) -> bool {
    let is_path = program.contains('/');
    let is_absolute = program.starts_with('/') && !program.starts_with(WORKSPACE);
    !program.is_empty() && !program.contains("${") && (!is_path || is_absolute)
}

/// What the calls of a run's agents carry for traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traces {
    /// Nothing.
    #[default]
    Nothing,
    /// The header `traceparent`: any server takes it.
    Header,
    /// Also session, name and tags in the body, as LiteLLM reads them. Others refuse a body with that.
    LiteLlm,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_project_only_its_skills_are_taken() {
        let project = tempfile::tempdir().unwrap();
        for path in [".claude/skills/a/SKILL.md", "b/SKILL.md", "src/main.rs"] {
            let path = project.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let skills = SkillsSource::read(project.path()).unwrap();
        let there: Vec<&str> = skills.trees.iter().map(|(_, there)| there.as_str()).collect();
        assert_eq!(there, ["/opt/skills/.claude/skills", "/opt/skills/b"]);
        let error = SkillsSource::read(&project.path().join("src")).unwrap_err();
        assert!(error.to_string().contains("holds no skills"), "{error}");
    }

    #[test]
    fn programs_are_those_that_the_image_must_have() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"mcpServers": {"a": {"command": "npx"}, "b": {"url": "http://h"}, "c": {"command": "/usr/bin/x"},
            "d": {"command": "./own"}, "e": {"command": "/workspace/own"}, "f": {"command": "${X}"}, "g": {"command": "z", "disabled": true}}}"#;
        std::fs::write(file.path(), text).unwrap();
        let mcp = McpSource::read(file.path(), BTreeMap::new()).unwrap();
        let programs: Vec<&str> =
            mcp.programs.iter().map(|(_, program)| program.as_str()).collect();
        assert_eq!(programs, ["npx", "/usr/bin/x"]);
        for bad in ["{", "[]", "{}", r#"{"mcpServers": {}}"#] {
            std::fs::write(file.path(), bad).unwrap();
            assert!(McpSource::read(file.path(), BTreeMap::new()).is_err(), "{bad}");
        }
    }
}
