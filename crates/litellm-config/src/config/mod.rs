//! The configuration as types.
//!
//! A [`ProxyConfig`] is a YAML document with names for what LiteLLM reads: what it does not know stays where it is, in
//! its order, with its comments. Build one from nothing and [`push`](ProxyConfig::push) models, or
//! [`parse`](ProxyConfig::parse) a file, change it, and [`render`](ProxyConfig::render) it.

mod entry;
mod value;

pub use self::{entry::ModelEntry, value::Value};
use crate::yaml::{Document, Kind, List, Map, Node, SyntaxError};

/// The blocks of a file, in the order in which they are written.
const BLOCKS: &[&str] = &[
    "include",
    "environment_variables",
    "model_list",
    "litellm_settings",
    "router_settings",
    "general_settings",
];

/// A configuration of the proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    document: Document,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self { document: Document { root: Some(Node::map(Map::default())), end: Vec::new() } }
    }
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is no YAML that the proxy reads.
    #[error("the configuration is not YAML that the proxy reads")]
    Syntax(#[from] SyntaxError),
    /// It is YAML, and no mapping of blocks.
    #[error("the configuration is not a mapping of blocks, as model_list and litellm_settings")]
    NotAMapping,
}

impl ProxyConfig {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It is no YAML, or no mapping of blocks.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut document = Document::parse(text)?;
        if document.root.as_ref().is_none_or(Node::is_null) {
            document.root = Some(Node::map(Map::default()));
        }
        if document.map().is_none() {
            return Err(ConfigError::NotAMapping);
        }
        Ok(Self { document })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        self.document.render()
    }

    /// The document, for what has no name here.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// A comment above everything.
    pub fn set_heading(&mut self, text: &str) {
        if let Some((key, _)) = self.root().entries.first_mut() {
            *key = key.clone().with_comment(text);
        }
    }

    /// The models that can be read. Others stay in the file; the linter names them.
    pub fn models(&self) -> Vec<ModelEntry> {
        let list =
            self.document.map().and_then(|root| root.get("model_list")).and_then(Node::as_list);
        list.unwrap_or_default().iter().filter_map(ModelEntry::read).collect()
    }

    /// Adds a model, with a comment above it where there is one to make.
    pub fn push(&mut self, entry: &ModelEntry, comment: Option<&str>) {
        let mut node = entry.to_node();
        if let Some(comment) = comment {
            node = node.with_comment(comment);
        }
        let list = self.block_or("model_list", || Kind::List(List::default()));
        if let Kind::List(list) = &mut list.kind {
            list.is_flow = false;
            list.items.push(node);
        }
    }

    /// Sets a key of a block, in its place where it is there already.
    pub fn set(&mut self, block: &str, key: &str, value: Node) {
        let node = self.block_or(block, || Kind::Map(Map::default()));
        if let Kind::Map(map) = &mut node.kind {
            map.set(key, value);
        }
    }

    /// A key of a block.
    pub fn get(&self, block: &str, key: &str) -> Option<&Node> {
        self.document.map()?.get(block)?.as_map()?.get(key)
    }

    /// A key of a block that is a switch and on.
    pub fn is_on(&self, block: &str, key: &str) -> bool {
        self.get(block, key).and_then(Node::as_bool) == Some(true)
    }

    fn root(&mut self) -> &mut Map {
        let root = self.document.root.get_or_insert_with(|| Node::map(Map::default()));
        if !matches!(root.kind, Kind::Map(_)) {
            root.kind = Kind::Map(Map::default());
        }
        match &mut root.kind {
            Kind::Map(map) => map,
            _ => unreachable!("it was made a mapping just now"),
        }
    }

    /// A block; a new one goes where blocks of that name belong. One that says nothing (`null`) becomes one.
    fn block_or(&mut self, name: &str, empty: impl Fn() -> Kind) -> &mut Node {
        let root = self.root();
        let there = root.entries.iter().position(|(key, _)| key.as_str() == Some(name));
        let place = there.unwrap_or_else(|| {
            let rank = |name: &str| BLOCKS.iter().position(|block| *block == name);
            let after =
                |(key, _): &(Node, Node)| rank(key.as_str().unwrap_or_default()) > rank(name);
            let place = root.entries.iter().position(after).unwrap_or(root.entries.len());
            let key = if place == 0 { Node::string(name) } else { Node::string(name).with_gap() };
            root.entries.insert(place, (key, Node::new(empty())));
            place
        });
        let node = &mut root.entries[place].1;
        if node.is_null() {
            node.kind = empty();
        }
        node
    }
}
