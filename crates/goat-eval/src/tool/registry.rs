//! The tools of a run.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec, Workspace,
    bash::Processes,
    bash::{Bash, BashOutput, KillShell},
    edit::Edit,
    glob::Glob,
    grep::Grep,
    read::Read,
    write::Write,
};
use crate::model::ToolDefinition;

/// The tools that a run offers, in the order in which the model sees them. Those of an MCP server may change while
/// it runs.
#[derive(Default)]
pub struct Registry {
    tools: RwLock<Vec<Entry>>,
}

#[derive(Clone)]
struct Entry {
    spec: ToolSpec,
    tool: Arc<dyn Tool>,
    /// Whose tool it is: a server's name, or nothing.
    group: String,
}

impl Entry {
    fn new(tool: Arc<dyn Tool>, group: &str) -> Self {
        Entry { spec: tool.spec(), tool, group: group.to_owned() }
    }
}

impl Registry {
    /// The tools of every run.
    pub fn standard(workspace: &Workspace, processes: &Arc<Processes>) -> Self {
        let mut registry = Registry::default();
        registry.add(Bash::new(workspace.clone(), Arc::clone(processes)));
        registry.add(Read::new(workspace.clone()));
        registry.add(Write::new(workspace.clone()));
        registry.add(Edit::new(workspace.clone()));
        registry.add(Glob::new(workspace.clone()));
        registry.add(Grep::new(workspace.clone()));
        registry.add(BashOutput::new(Arc::clone(processes)));
        registry.add(KillShell::new(Arc::clone(processes)));
        registry
    }

    /// Offers another tool; one of the same name is replaced.
    pub fn add(&mut self, tool: impl Tool + 'static) {
        let entry = Entry::new(Arc::new(tool), "");
        let mut tools = self.write();
        tools.retain(|known| known.spec.name != entry.spec.name);
        tools.push(entry);
    }

    /// Makes these the tools of a group, in the place of its earlier ones; others keep theirs, and their names.
    pub fn replace_group(&self, group: &str, tools: Vec<Arc<dyn Tool>>) {
        let mut known = self.write();
        let place = known.iter().position(|entry| entry.group == group).unwrap_or(known.len());
        known.retain(|entry| entry.group != group);
        let mut new: Vec<Entry> = tools.into_iter().map(|tool| Entry::new(tool, group)).collect();
        new.retain(|entry| known.iter().all(|it| it.spec.name != entry.spec.name));
        known.splice(place..place, new);
    }

    /// The tools that `keep` wants, by their names.
    pub fn subset(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.read().iter().filter(|entry| keep(&entry.spec.name)).cloned().collect();
        Registry { tools: RwLock::new(kept) }
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.read().iter().map(|entry| entry.spec.name.clone()).collect()
    }

    /// What is sent to the model.
    pub fn definitions(&self, brief: bool) -> Vec<ToolDefinition> {
        self.read().iter().map(|entry| entry.spec.definition(brief)).collect()
    }

    /// Whether calls of this tool may run beside others.
    pub fn is_read_only(&self, name: &str) -> bool {
        self.find(name).is_some_and(|entry| entry.spec.read_only)
    }

    /// Calls a tool with arguments as the model wrote them. Every failure becomes text for the model.
    pub async fn call(&self, name: &str, arguments: &str) -> ToolOutput {
        self.try_call(name, arguments)
            .await
            .unwrap_or_else(|error| ToolOutput::error(format!("Error: {error}")))
    }

    async fn try_call(&self, name: &str, arguments: &str) -> Result<ToolOutput, ToolError> {
        let entry = self.find(name).ok_or_else(|| self.no_such_tool(name))?;
        entry.tool.call(Arguments::parse(arguments)?).await
    }

    fn find(&self, name: &str) -> Option<Entry> {
        self.read().iter().find(|entry| entry.spec.name == name).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Entry>> {
        self.tools.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Entry>> {
        self.tools.write().unwrap_or_else(PoisonError::into_inner)
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
        insta::assert_snapshot!(told, @"Error: there is no tool `Bsh`; the tools are Bash, Read, Write, Edit, Glob, Grep, BashOutput, KillShell");
        let told = registry.call("Read", "{\"file_path\"").await;
        assert!(told.is_error && told.text.contains("not a JSON object"), "{}", told.text);
    }
}
