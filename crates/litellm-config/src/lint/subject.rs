//! The file as the rules look at it.

use crate::{
    known,
    lint::context::Context,
    yaml::{Document, Map, Node},
};

/// The prefix of a value that LiteLLM takes from its environment.
pub(crate) const ENV: &str = "os.environ/";

/// Prefixes that name no provider: prompts that are kept elsewhere, and routers, which choose one.
const ROUTERS: &[&str] = &[
    "arize_phoenix",
    "auto_router",
    "bitbucket",
    "dotprompt",
    "gitlab",
    "humanloop",
    "langfuse",
    "promptlayer",
];

/// LiteLLM takes any name of Anthropic's present families without its provider.
fn is_claude(model: &str) -> bool {
    let families = ["claude-opus-", "claude-sonnet-", "claude-haiku-"];
    families.iter().any(|family| {
        model
            .strip_prefix(family)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// A configuration under the linter.
pub(crate) struct Subject<'a> {
    pub(crate) document: &'a Document,
    pub(crate) context: &'a Context,
    pub(crate) models: Vec<Model<'a>>,
}

/// An entry of `model_list`.
pub(crate) struct Model<'a> {
    pub(crate) index: usize,
    pub(crate) node: &'a Node,
    pub(crate) params: Option<&'a Map>,
    pub(crate) info: Option<&'a Map>,
    environment: &'a Context,
}

/// Who serves a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider<'a> {
    /// This one.
    Known(&'a str),
    /// LiteLLM knows the model by its bare name.
    ByName,
    /// Nobody knows before the proxy runs: a wildcard, a variable.
    Open,
    /// LiteLLM does not know: the entry is dropped.
    Unknown,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(document: &'a Document, context: &'a Context) -> Self {
        let list = document.map().and_then(|root| root.get("model_list")).and_then(Node::as_list);
        let models = list.unwrap_or_default().iter().enumerate().map(|(index, node)| {
            let block = |key| node.as_map().and_then(|map| map.get(key)).and_then(Node::as_map);
            let (params, info) = (block("litellm_params"), block("model_info"));
            Model { index, node, params, info, environment: context }
        });
        Self { document, context, models: models.collect() }
    }

    pub(crate) fn top(&self, key: &str) -> Option<&'a Node> {
        self.document.map().and_then(|root| root.get(key))
    }

    /// A block of settings.
    pub(crate) fn block(&self, name: &str) -> Option<&'a Map> {
        self.top(name).and_then(Node::as_map)
    }

    /// A key of a block of settings.
    pub(crate) fn setting(&self, block: &str, key: &str) -> Option<&'a Node> {
        self.block(block).and_then(|map| map.get(key))
    }

    /// Whether a switch of a block is on.
    pub(crate) fn is_on(&self, block: &str, key: &str) -> bool {
        self.setting(block, key).and_then(Node::as_bool) == Some(true)
    }

    /// Whether the proxy has a database, where models and budgets may lie.
    pub(crate) fn has_database(&self) -> bool {
        self.setting("general_settings", "database_url").is_some_and(|node| !node.is_null())
            || self.context.environment.get("DATABASE_URL").is_some()
    }

    /// Whether models may come from elsewhere than this file.
    pub(crate) fn has_models_elsewhere(&self) -> bool {
        self.top("include").is_some()
            || self.has_database()
            || self.is_on("general_settings", "store_model_in_db")
    }

    pub(crate) fn sleeping(&self) -> impl Iterator<Item = &Model<'a>> {
        self.models.iter().filter(|model| model.is_sleeping())
    }

    /// Whether a request for this name finds a deployment.
    pub(crate) fn serves(&self, name: &str) -> bool {
        let matches = |pattern: &str| match pattern.split_once('*') {
            None => pattern == name,
            Some((head, tail)) => name.starts_with(head) && name.ends_with(tail),
        };
        let id = |model: &Model<'_>| {
            model.info.and_then(|info| info.get("id")).and_then(Node::text) == Some(name)
        };
        self.models.iter().any(|model| model.name().is_some_and(matches) || id(model))
            || self.alias(name).is_some()
    }

    pub(crate) fn alias(&self, name: &str) -> Option<&'a Node> {
        self.setting("router_settings", "model_group_alias").and_then(Node::as_map)?.get(name)
    }
}

impl<'a> Model<'a> {
    pub(crate) fn name(&self) -> Option<&'a str> {
        self.node.as_map()?.get("model_name")?.text()
    }

    /// For messages: its name, else its position.
    pub(crate) fn label(&self) -> String {
        self.name().map_or_else(|| format!("entry {}", self.index + 1), |name| format!("`{name}`"))
    }

    pub(crate) fn path(&self, below: &str) -> String {
        if below.is_empty() {
            format!("model_list[{}]", self.index)
        } else {
            format!("model_list[{}].{below}", self.index)
        }
    }

    pub(crate) fn param(&self, key: &str) -> Option<&'a Node> {
        self.params?.get(key).filter(|node| !node.is_null())
    }

    pub(crate) fn info_of(&self, key: &str) -> Option<&'a Node> {
        self.info?.get(key).filter(|node| !node.is_null())
    }

    /// `litellm_params.model`.
    pub(crate) fn model(&self) -> Option<&'a str> {
        self.param("model")?.text()
    }

    /// The model without the provider's prefix.
    pub(crate) fn bare_model(&self) -> Option<&'a str> {
        let model = self.model()?;
        match (self.provider(), model.split_once('/')) {
            (Provider::Known(provider), Some((prefix, rest))) if prefix == provider => Some(rest),
            _ => Some(model),
        }
    }

    pub(crate) fn provider(&self) -> Provider<'a> {
        if let Some(provider) = self.param("custom_llm_provider").and_then(Node::text) {
            return Provider::Known(provider);
        }
        let Some(model) = self.model() else { return Provider::Open };
        if model.starts_with(ENV) || model == "*" {
            return Provider::Open;
        }
        let litellm = self.environment.litellm;
        if known::OPENAI_MODELS.has_in(model, litellm) || model.starts_with("ft:") {
            return Provider::Known("openai");
        }
        match model.split_once('/') {
            Some((prefix, _)) if known::PROVIDERS.has_in(prefix, litellm) => {
                Provider::Known(prefix)
            }
            Some((prefix, _)) if ROUTERS.contains(&prefix) => Provider::Open,
            _ if known::MODELS.has_in(model, litellm) || is_claude(model) => Provider::ByName,
            _ => Provider::Unknown,
        }
    }

    /// A parameter's value, taken from the environment where it says so; `None` where that is not known.
    pub(crate) fn value(&self, key: &str) -> Option<&'a str> {
        let text = self.param(key)?.text()?;
        match text.strip_prefix(ENV) {
            Some(name) => self.environment.environment.get(name),
            None => Some(text),
        }
    }

    /// `https://host:port/path` in its parts: host and path.
    pub(crate) fn base(&self) -> Option<(&'a str, &'a str)> {
        let base = self.value("api_base").or_else(|| self.value("base_url"))?;
        let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        Some((host.split(':').next().unwrap_or(host), path))
    }

    /// Whether its server sleeps while nobody asks it.
    pub(crate) fn is_sleeping(&self) -> bool {
        let ends = &self.environment.sleeping_hosts;
        self.info_of("scale_to_zero").and_then(Node::as_bool) == Some(true)
            || self
                .base()
                .is_some_and(|(host, _)| ends.iter().any(|end| host.ends_with(end.as_str())))
    }

    /// Whether the file says where the model is served.
    pub(crate) fn has_base(&self) -> bool {
        ["api_base", "base_url"]
            .iter()
            .any(|key| self.param(key).is_some_and(|it| it.text() != Some("")))
    }
}
