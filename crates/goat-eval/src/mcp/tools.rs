//! Tools of servers, and the two for resources, as the model sees them.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::model::{
    ClientRequest, JsonObject, ReadResourceRequestParams, Request, ServerResult, Tool as RemoteTool,
};
use serde_json::{Map, Value, json};

use super::{
    content,
    server::{LIST, Server},
};
use crate::tool::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec,
    text::{LONGEST_RESULT, cut_middle},
};

/// Characters of a description at most: it is paid for with every call.
const LONGEST_DESCRIPTION: usize = 2_000;
/// Characters of a description for models that need it short.
const BRIEF_DESCRIPTION: usize = 200;

/// A tool of a server.
#[derive(Debug)]
pub(super) struct McpTool {
    server: Arc<Server>,
    /// The server's own name for it.
    name: String,
    spec: ToolSpec,
}

impl McpTool {
    pub(super) fn new(server: Arc<Server>, name: String, tool: &RemoteTool) -> Self {
        let described = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
        let spec = ToolSpec {
            name,
            description: cut_middle(described, LONGEST_DESCRIPTION),
            brief: crate::progress::shorten(described, BRIEF_DESCRIPTION),
            parameters: parameters(&tool.input_schema),
            // A server's word that a tool only reads is no ground to run it beside others.
            read_only: false,
        };
        McpTool { server, name: tool.name.to_string(), spec }
    }
}

/// The server's schema as it is; what OpenAI's API insists on is added where it is missing.
fn parameters(schema: &JsonObject) -> Value {
    let mut schema = schema.clone();
    schema.entry("type").or_insert_with(|| json!("object"));
    schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    Value::Object(schema)
}

#[async_trait]
impl Tool for McpTool {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        self.server.call(&self.name, arguments.into_map()).await
    }
}

/// Lists the resources of servers.
#[derive(Debug)]
pub(super) struct ListResources(pub(super) Vec<Arc<Server>>);

#[async_trait]
impl Tool for ListResources {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "ListMcpResources".into(),
            description: "Lists the resources (files, records, documents) that the MCP servers offer, or one of \
                          them. ReadMcpResource reads one."
                .into(),
            brief: "Lists the resources of MCP servers.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "server_name": {"type": "string", "description": "One server; without it, all"},
                },
            }),
            read_only: true,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let wanted = arguments.text("server_name")?.filter(|name| !name.is_empty());
        let servers = match &wanted {
            Some(name) => vec![find(&self.0, name)?],
            None => self.0.iter().collect(),
        };
        let (mut text, mut failed) = (String::new(), 0);
        for server in &servers {
            text.push_str(&format!("Server {}:\n", server.name));
            match listed(server).await {
                Ok(lines) => text.push_str(&lines),
                Err(error) => {
                    failed += 1;
                    text.push_str(&format!("Error: {error}\n"));
                }
            }
        }
        let is_error = failed > 0 && failed == servers.len();
        Ok(ToolOutput { text: cut_middle(&text, LONGEST_RESULT), is_error, full: None })
    }
}

async fn listed(server: &Server) -> Result<String, ToolError> {
    let offers = server.peer.peer_info().is_some_and(|info| info.capabilities.resources.is_some());
    if !offers {
        return Ok("it offers no resources\n".to_owned());
    }
    let late = |_| ToolError::Failed(format!("no list within {} seconds", LIST.as_secs()));
    let lists = async {
        tokio::join!(server.peer.list_all_resources(), server.peer.list_all_resource_templates())
    };
    let (resources, templates) = tokio::time::timeout(LIST, lists).await.map_err(late)?;
    let resources = resources.map_err(|error| ToolError::Failed(error.to_string()))?;
    let mut lines: String =
        resources.iter().map(|it| format!("{}\n", content::entry(it))).collect();
    // Servers without templates answer with an error.
    for template in templates.unwrap_or_default() {
        let described = template.description.as_deref().unwrap_or_default();
        lines.push_str(&format!(
            "{} ({}, a template) {described}\n",
            template.uri_template, template.name
        ));
    }
    if lines.is_empty() {
        lines.push_str("it has none now\n");
    }
    Ok(lines)
}

/// Reads a resource of a server.
#[derive(Debug)]
pub(super) struct ReadResource(pub(super) Vec<Arc<Server>>);

#[async_trait]
impl Tool for ReadResource {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "ReadMcpResource".into(),
            description:
                "Reads a resource of an MCP server, by its URI as ListMcpResources shows it.".into(),
            brief: "Reads a resource of an MCP server.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "server_name": {"type": "string", "description": "The server that has it"},
                    "uri": {"type": "string", "description": "The resource's URI"},
                },
                "required": ["server_name", "uri"],
            }),
            read_only: true,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let server = find(&self.0, &arguments.required_text("server_name")?)?;
        let params = ReadResourceRequestParams::new(arguments.required_text("uri")?);
        let request = ClientRequest::ReadResourceRequest(Request::new(params));
        match server.ask(request, LIST).await? {
            ServerResult::ReadResourceResult(result) => {
                Ok(ToolOutput::ok(content::resource(&result.contents)))
            }
            _ => Err(ToolError::Failed("the server answered with something else".to_owned())),
        }
    }
}

fn find<'s>(servers: &'s [Arc<Server>], name: &str) -> Result<&'s Arc<Server>, ToolError> {
    servers.iter().find(|server| server.name == name).ok_or_else(|| {
        let known: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        let known = if known.is_empty() { "none" } else { &known.join(", ") };
        ToolError::Failed(format!("there is no MCP server `{name}`; those reached: {known}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_pass_and_get_what_is_missing() {
        let schema = json!({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {}}, "required": ["a"]});
        let Value::Object(map) = schema.clone() else { panic!() };
        let mut expected = schema;
        expected["type"] = json!("object");
        assert_eq!(parameters(&map), expected);
        assert_eq!(parameters(&Map::new()), json!({"type": "object", "properties": {}}));
    }
}
