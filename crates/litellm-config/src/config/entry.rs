//! One model of the proxy.

use std::time::Duration;

use super::Value;
use crate::yaml::{Kind, Map, Node};

/// An entry of `model_list`: what is known of it as fields, everything else as it was.
#[derive(Clone, Debug)]
pub struct ModelEntry {
    /// What callers ask for.
    pub name: String,
    /// Provider and model, as `azure/gpt-4o-mini`.
    pub model: String,
    /// Where it is served.
    pub api_base: Option<Value>,
    /// The key that its server wants.
    pub api_key: Option<Value>,
    /// Azure's version of the API.
    pub api_version: Option<String>,
    /// To the first byte, and between reads.
    pub timeout: Option<Duration>,
    /// The same where the answer streams.
    pub stream_timeout: Option<Duration>,
    /// How often a request is sent again; `None`: as the router says.
    pub num_retries: Option<u32>,
    /// The model in LiteLLM's price map.
    pub base_model: Option<String>,
    /// `chat`, `embedding` and so on.
    pub mode: Option<String>,
    /// US dollars a token.
    pub input_cost_per_token: Option<f64>,
    /// US dollars a token.
    pub output_cost_per_token: Option<f64>,
    /// US dollars a token that the provider had in its cache.
    pub cache_read_input_token_cost: Option<f64>,
    /// Tokens of the context.
    pub max_input_tokens: Option<u64>,
    /// Tokens of an answer.
    pub max_output_tokens: Option<u64>,
    /// Whether it calls tools.
    pub supports_function_calling: Option<bool>,
    /// Whether its server sleeps while nobody asks: the linter's mark.
    pub scale_to_zero: bool,
    /// What else stands in `litellm_params`.
    pub more_params: Map,
    /// What else stands in `model_info`.
    pub more_info: Map,
    /// What else stands in the entry.
    pub more: Map,
}

impl ModelEntry {
    /// A model under a name.
    pub fn new(name: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: model.into(),
            api_base: None,
            api_key: None,
            api_version: None,
            timeout: None,
            stream_timeout: None,
            num_retries: None,
            base_model: None,
            mode: None,
            input_cost_per_token: None,
            output_cost_per_token: None,
            cache_read_input_token_cost: None,
            max_input_tokens: None,
            max_output_tokens: None,
            supports_function_calling: None,
            scale_to_zero: false,
            more_params: Map::default(),
            more_info: Map::default(),
            more: Map::default(),
        }
    }

    /// Reads an entry. What is not of the type that it should be stays among the rest, unchanged. `None` where there
    /// is no name or no model.
    pub fn read(node: &Node) -> Option<Self> {
        let mut more = node.as_map()?.clone();
        let mut params = take_map(&mut more, "litellm_params")?;
        let mut info = take_map(&mut more, "model_info").unwrap_or_default();
        let mut entry =
            Self::new(take_text(&mut more, "model_name")?, take_text(&mut params, "model")?);
        entry.api_base = take(&mut params, "api_base", Value::of);
        entry.api_key = take(&mut params, "api_key", Value::of);
        entry.api_version = take_text(&mut params, "api_version");
        entry.timeout = take(&mut params, "timeout", seconds);
        entry.stream_timeout = take(&mut params, "stream_timeout", seconds);
        entry.num_retries =
            take(&mut params, "num_retries", whole).and_then(|it| it.try_into().ok());
        entry.base_model = take_text(&mut info, "base_model");
        entry.mode = take_text(&mut info, "mode");
        entry.input_cost_per_token = take(&mut info, "input_cost_per_token", Node::as_number);
        entry.output_cost_per_token = take(&mut info, "output_cost_per_token", Node::as_number);
        entry.cache_read_input_token_cost =
            take(&mut info, "cache_read_input_token_cost", Node::as_number);
        entry.max_input_tokens = take(&mut info, "max_input_tokens", whole);
        entry.max_output_tokens = take(&mut info, "max_output_tokens", whole);
        entry.supports_function_calling =
            take(&mut info, "supports_function_calling", Node::as_bool);
        entry.scale_to_zero = take(&mut info, "scale_to_zero", Node::as_bool).unwrap_or_default();
        (entry.more_params, entry.more_info, entry.more) = (params, info, more);
        Some(entry)
    }

    /// As it is written: known keys in one order, the rest after them.
    pub fn to_node(&self) -> Node {
        let mut entry = Map::default().with("model_name", Node::string(&*self.name));
        entry.set("litellm_params", Node::map(self.params()));
        let info = self.info();
        if !info.entries.is_empty() {
            entry.set("model_info", Node::map(info));
        }
        entry.entries.extend(self.more.entries.iter().cloned());
        Node::map(entry)
    }

    fn params(&self) -> Map {
        let mut params = Map::default().with("model", Node::string(&*self.model));
        let seconds =
            |time: &Duration| Node::int(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
        put(&mut params, "api_base", self.api_base.as_ref().map(Value::to_node));
        put(&mut params, "api_key", self.api_key.as_ref().map(Value::to_node));
        put(&mut params, "api_version", self.api_version.as_ref().map(|it| quoted(it)));
        put(&mut params, "timeout", self.timeout.as_ref().map(seconds));
        put(&mut params, "stream_timeout", self.stream_timeout.as_ref().map(seconds));
        put(&mut params, "num_retries", self.num_retries.map(|it| Node::int(it.into())));
        params.entries.extend(self.more_params.entries.iter().cloned());
        params
    }

    fn info(&self) -> Map {
        let mut info = Map::default();
        let tokens = |count: u64| Node::int(i64::try_from(count).unwrap_or(i64::MAX));
        put(&mut info, "base_model", self.base_model.as_deref().map(Node::string));
        put(&mut info, "mode", self.mode.as_deref().map(Node::string));
        put(&mut info, "input_cost_per_token", self.input_cost_per_token.map(Node::float));
        put(&mut info, "output_cost_per_token", self.output_cost_per_token.map(Node::float));
        put(
            &mut info,
            "cache_read_input_token_cost",
            self.cache_read_input_token_cost.map(Node::float),
        );
        put(&mut info, "max_input_tokens", self.max_input_tokens.map(tokens));
        put(&mut info, "max_output_tokens", self.max_output_tokens.map(tokens));
        put(&mut info, "supports_function_calling", self.supports_function_calling.map(Node::bool));
        put(&mut info, "scale_to_zero", self.scale_to_zero.then(|| Node::bool(true)));
        info.entries.extend(self.more_info.entries.iter().cloned());
        info
    }
}

/// A version looks like a date.
fn quoted(text: &str) -> Node {
    Node::string(text)
}

fn put(map: &mut Map, key: &str, value: Option<Node>) {
    if let Some(value) = value {
        map.set(key, value);
    }
}

/// Takes a key out where its value can be read and it stands there once; else it stays.
fn take<T>(map: &mut Map, key: &str, read: impl Fn(&Node) -> Option<T>) -> Option<T> {
    let is_it = |(name, _): &(Node, Node)| name.as_str() == Some(key);
    let mut places =
        map.entries.iter().enumerate().filter(|(_, entry)| is_it(entry)).map(|(at, _)| at);
    let (Some(place), None) = (places.next(), places.next()) else { return None };
    let node = &map.entries[place].1;
    // An anchor is needed where it is named again, a comment where it stands.
    if node.anchor.is_some() || node.alias.is_some() || node.tag.is_some() {
        return None;
    }
    let value = read(node)?;
    map.entries.remove(place);
    Some(value)
}

fn take_text(map: &mut Map, key: &str) -> Option<String> {
    take(map, key, |node| node.as_str().map(str::to_owned))
}

fn take_map(map: &mut Map, key: &str) -> Option<Map> {
    take(map, key, |node| if let Kind::Map(map) = &node.kind { Some(map.clone()) } else { None })
}

fn seconds(node: &Node) -> Option<Duration> {
    let seconds = whole(node)?;
    Some(Duration::from_secs(seconds))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
fn whole(node: &Node) -> Option<u64> {
    let number = node.as_number()?;
    let is_whole = number.fract() == 0.0 && (0.0..1e15).contains(&number);
    is_whole.then_some(number as u64)
}
