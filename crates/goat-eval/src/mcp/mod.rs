//! MCP servers: programs and addresses that bring tools and resources, through the official SDK `rmcp`.
//!
//! [`config`] reads the file of `--mcp-config`; [`Servers::connect`] starts or reaches all of them at once. Each tool
//! is offered as `mcp__<server>__<tool>`; a list that changes is asked for again before the next request
//! ([`Servers::refresh`]). A server that can't be reached, dies, floods or does not answer is told to the person and
//! the model, and the run goes on. No server gets the model's key: a program has the environment of the tools'
//! commands and what its entry adds.

pub mod config;
mod content;
mod names;
mod server;
mod sse;
mod stdio;
mod tools;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

pub(crate) use self::server::CLOSE;
use self::{
    config::ServerConfig,
    names::Names,
    server::{MOST_TOOLS, Server},
    tools::{ListResources, McpTool, ReadResource},
};
use crate::{
    secret::Redactor,
    tool::{Registry, Tool, bash::Processes, marked, text::cut_middle},
};

/// Characters of a server's instructions at most.
const LONGEST_INSTRUCTIONS: usize = 2_000;

/// Something about a server that belongs into the transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// The server, as the config names it.
    pub server: String,
    /// What is new.
    #[serde(flatten)]
    pub what: What,
}

/// What is new about a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// It was reached.
    Connected {
        /// `stdio`, `http` or `sse`.
        transport: String,
        /// The version of the protocol.
        protocol: String,
        /// What it calls itself, with its version.
        implementation: String,
        /// Its tools: the name that the model knows, and its own.
        tools: Vec<(String, String)>,
    },
    /// Its tools are others now.
    ToolsChanged {
        /// Its tools: the name that the model knows, and its own.
        tools: Vec<(String, String)>,
    },
    /// Something does not work; the run goes on.
    Failed {
        /// What.
        reason: String,
    },
}

impl News {
    fn failed(server: &str, reason: String) -> Self {
        News { server: server.to_owned(), what: What::Failed { reason } }
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Connected { tools, transport, .. } => {
                write!(
                    f,
                    "connected MCP server: {} ({transport}, {} tools)",
                    self.server,
                    tools.len()
                )
            }
            What::ToolsChanged { tools } => {
                write!(f, "MCP server {} has {} tools now", self.server, tools.len())
            }
            What::Failed { reason } => write!(f, "warning: MCP server {}: {reason}", self.server),
        }
    }
}

/// The servers of a run.
#[derive(Debug, Default)]
pub struct Servers {
    reached: Vec<Arc<Server>>,
    names: Mutex<Names>,
}

impl Servers {
    /// Starts or reaches all servers at once and offers their tools.
    pub async fn connect(
        configs: &[ServerConfig],
        processes: &Arc<Processes>,
        redactor: &Redactor,
        registry: &mut Registry,
    ) -> (Self, Vec<News>) {
        let connecting = configs.iter().map(|config| server::connect(config, processes, redactor));
        let results = futures::future::join_all(connecting).await;
        let (mut servers, mut news) = (Servers::default(), Vec::new());
        for (config, result) in configs.iter().zip(results) {
            match result {
                Ok(server) => servers.reached.push(Arc::new(server)),
                Err(reason) => news.push(News::failed(&config.name, reason)),
            }
        }
        let listing = servers.reached.iter().map(|server| server.tools());
        let lists = futures::future::join_all(listing).await;
        for (server, list) in servers.reached.iter().zip(lists) {
            match list {
                Ok((tools, more)) => {
                    let tools = servers.offer(server, &tools, registry);
                    news.push(connected(server, tools));
                    news.extend(more.then(|| too_many(server)));
                }
                Err(reason) => news.push(News::failed(&server.name, reason)),
            }
        }
        registry.add(ListResources(servers.reached.clone()));
        registry.add(ReadResource(servers.reached.clone()));
        (servers, news)
    }

    /// Asks those servers for their tools whose lists have changed, and tells who is gone.
    pub async fn refresh(&self, registry: &Registry) -> Vec<News> {
        let mut news = Vec::new();
        for server in &self.reached {
            if let Some(reason) = server.obituary() {
                news.push(News::failed(&server.name, reason));
            } else if server.has_changed() {
                match server.tools().await {
                    Ok((tools, more)) => {
                        let tools = self.offer(server, &tools, registry);
                        let what = What::ToolsChanged { tools };
                        news.push(News { server: server.name.clone(), what });
                        news.extend(more.then(|| too_many(server)));
                    }
                    Err(reason) => news.push(News::failed(&server.name, reason)),
                }
            }
        }
        news
    }

    /// What servers say about themselves, for the system prompt; marked, since it is not the user's.
    pub fn instructions(&self) -> String {
        let said = self.reached.iter().filter_map(|server| {
            let text = server.peer.peer_info()?.instructions.clone()?;
            let text = cut_middle(text.trim(), LONGEST_INSTRUCTIONS);
            let marked = marked::as_data(&text);
            (!text.is_empty())
                .then(|| format!("\n# What the MCP server {} says\n{marked}\n", server.name))
        });
        said.collect()
    }

    /// Ends the conversations in good order, as far as that is quick.
    pub async fn close(&self) {
        futures::future::join_all(self.reached.iter().map(|server| server.close())).await;
    }

    fn offer(
        &self,
        server: &Arc<Server>,
        tools: &[rmcp::model::Tool],
        registry: &Registry,
    ) -> Vec<(String, String)> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut offered, mut new) = (Vec::new(), Vec::<Arc<dyn Tool>>::new());
        for tool in tools {
            let name = names.name(&server.name, &tool.name);
            if offered.iter().any(|(known, _)| *known == name) {
                continue;
            }
            new.push(Arc::new(McpTool::new(Arc::clone(server), name.clone(), tool)));
            offered.push((name, tool.name.to_string()));
        }
        // A group's name can't be that of a tool of ours, whatever a server is called.
        registry.replace_group(&format!("mcp {}", server.name), new);
        offered
    }
}

fn connected(server: &Server, tools: Vec<(String, String)>) -> News {
    let info = server.peer.peer_info();
    let implementation = info.as_ref().and_then(|info| info.server_info.as_ref());
    let what = What::Connected {
        transport: server.transport.to_owned(),
        protocol: info.as_ref().map(|info| info.protocol_version.to_string()).unwrap_or_default(),
        implementation: implementation
            .map(|it| format!("{} {}", it.name, it.version))
            .unwrap_or_default(),
        tools,
    };
    News { server: server.name.clone(), what }
}

fn too_many(server: &Server) -> News {
    News::failed(
        &server.name,
        format!("it has more than {MOST_TOOLS} tools; the others are left out"),
    )
}
