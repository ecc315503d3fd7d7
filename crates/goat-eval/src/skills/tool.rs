//! The tool Skill: the text of a skill.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::{Skill, Skills};
use crate::tool::{Arguments, Tool, ToolError, ToolOutput, ToolSpec};

/// The tool's name.
pub const SKILL: &str = "Skill";

/// Characters of a skill's entry at most; a description that goes on for pages would cost every call.
const LONGEST_ENTRY: usize = 1_500;

/// Gives the text of a skill. One in a conversation of its own is run by the session, not here.
#[derive(Debug)]
pub struct SkillTool {
    skills: Arc<Skills>,
}

impl SkillTool {
    /// The tool for these skills.
    pub fn new(skills: Arc<Skills>) -> Self {
        SkillTool { skills }
    }
}

#[async_trait]
impl Tool for SkillTool {
    fn spec(&self) -> ToolSpec {
        let entries: String = self.skills.found.iter().map(entry).collect();
        ToolSpec {
            name: SKILL.into(),
            description: format!(
                "Loads a skill: instructions for one kind of work, written for this task's surroundings. If one of \
                 them fits what you are about to do, load it first and follow it. The skills:{entries}"
            ),
            brief: format!("Loads instructions for one kind of work. The skills:{entries}"),
            parameters: json!({
                "type": "object",
                "properties": {
                    "skill": {"type": "string", "description": "The skill's name"},
                    "args": {"type": "string", "description": "What it is to work on, where it takes arguments"},
                },
                "required": ["skill"],
            }),
            read_only: false,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let (skill, given) = wanted(&self.skills, &arguments)?;
        skill
            .text(&given)
            .map(ToolOutput::ok)
            .map_err(|problem| ToolError::Failed(problem.to_string()))
    }
}

/// The skill that a call means, and what is given to it.
pub(crate) fn wanted<'s>(
    skills: &'s Skills,
    arguments: &Arguments,
) -> Result<(&'s Skill, String), ToolError> {
    let name = arguments.required_text("skill")?;
    let given = arguments.text("args")?.unwrap_or_default();
    let known =
        || skills.found.iter().map(|skill| skill.name.as_str()).collect::<Vec<_>>().join(", ");
    let skill = skills.find(&name).ok_or_else(|| {
        ToolError::Failed(format!("there is no skill `{name}`; the skills are {}", known()))
    })?;
    Ok((skill, given))
}

fn entry(skill: &Skill) -> String {
    let mut text = format!("\n- {}", skill.name);
    if let Some(hint) = &skill.argument_hint {
        text.push_str(&format!(" {hint}"));
    }
    text.push_str(&format!(": {}", skill.description));
    if let Some(when) = &skill.when_to_use {
        text.push_str(&format!(" Use it when: {when}"));
    }
    if text.chars().count() > LONGEST_ENTRY {
        text = text.chars().take(LONGEST_ENTRY).collect();
        text.push('…');
    }
    text
}
