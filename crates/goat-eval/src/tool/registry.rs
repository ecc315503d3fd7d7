//! The tools of a run.

use std::sync::Arc;

use super::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec, Workspace, bash::Bash, bash::Processes,
    edit::Edit, glob::Glob, grep::Grep, read::Read, write::Write,
};
use crate::model::ToolDefinition;

/// The tools that a run offers, in the order in which the model sees them.
#[derive(Default)]
pub struct Registry {
    tools: Vec<(ToolSpec, Arc<dyn Tool>)>,
}

impl Registry {
    /// The six tools of every run.
    pub fn standard(workspace: &Workspace, processes: &Arc<Processes>) -> Self {
        let mut registry = Registry::default();
        registry.add(Bash::new(workspace.clone(), Arc::clone(processes)));
        registry.add(Read::new(workspace.clone()));
        registry.add(Write::new(workspace.clone()));
        registry.add(Edit::new(workspace.clone()));
        registry.add(Glob::new(workspace.clone()));
        registry.add(Grep::new(workspace.clone()));
        registry
    }

    /// Offers another tool; one of the same name is replaced.
    pub fn add(&mut self, tool: impl Tool + 'static) {
        let spec = tool.spec();
        self.tools.retain(|(known, _)| known.name != spec.name);
        self.tools.push((spec, Arc::new(tool)));
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.tools.iter().map(|(spec, _)| spec.name.clone()).collect()
    }

    /// What is sent to the model.
    pub fn definitions(&self, brief: bool) -> Vec<ToolDefinition> {
        self.tools.iter().map(|(spec, _)| spec.definition(brief)).collect()
    }

    /// Whether calls of this tool may run beside others.
    pub fn is_read_only(&self, name: &str) -> bool {
        self.find(name).is_some_and(|(spec, _)| spec.read_only)
    }

    /// Calls a tool with arguments as the model wrote them. Every failure becomes text for the model.
    pub async fn call(&self, name: &str, arguments: &str) -> ToolOutput {
        self.try_call(name, arguments)
            .await
            .unwrap_or_else(|error| ToolOutput::error(format!("Error: {error}")))
    }

    async fn try_call(&self, name: &str, arguments: &str) -> Result<ToolOutput, ToolError> {
        let (_, tool) = self.find(name).ok_or_else(|| self.no_such_tool(name))?;
        tool.call(Arguments::parse(arguments)?).await
    }

    fn find(&self, name: &str) -> Option<&(ToolSpec, Arc<dyn Tool>)> {
        self.tools.iter().find(|(spec, _)| spec.name == name)
    }

    fn no_such_tool(&self, name: &str) -> ToolError {
        ToolError::NoSuchTool { name: name.to_owned(), known: self.names().join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        let workspace = Workspace { cwd: "/".into() };
        Registry::standard(&workspace, &Arc::new(Processes::new(Vec::new())))
    }

    #[test]
    fn definitions_are_stable() {
        insta::assert_json_snapshot!(
            registry()
                .definitions(false)
                .iter()
                .map(|tool| serde_json::json!({"name": tool.name, "parameters": tool.parameters}))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn brief_descriptions_are_brief() {
        for (brief, long) in registry().definitions(true).iter().zip(registry().definitions(false))
        {
            assert!(
                brief.description.len() < 120 && brief.description.len() < long.description.len()
            );
        }
    }

    #[tokio::test]
    async fn mistakes_of_the_model_are_told_to_it() {
        let registry = registry();
        let told = registry.call("Bsh", "{}").await.text;
        insta::assert_snapshot!(told, @"Error: there is no tool `Bsh`; the tools are Bash, Read, Write, Edit, Glob, Grep");
        let told = registry.call("Read", "{\"file_path\"").await;
        assert!(told.is_error && told.text.contains("not a JSON object"), "{}", told.text);
    }
}
