//! The configuration of this workspace's proxy, from the catalogue.
//!
//! What every line is for stands beside it as a comment. The same file serves every version set: a switch that a
//! version does not know it ignores.

use std::time::Duration;

use crate::{
    catalogue::{Catalogue, Offer, TOKENS_OF_A_PRICE},
    config::{ModelEntry, ProxyConfig, Value},
    hook,
    version::VersionSet,
    yaml::{Map, Node},
};

/// A model on a server of one's own, which may sleep while nobody asks.
#[derive(Clone, Debug)]
pub struct OwnModel {
    /// What callers ask for.
    pub name: String,
    /// What its server calls it.
    pub served_name: String,
    /// Its address, with `/v1`.
    pub api_base: String,
    /// The variable with its server's key.
    pub key_variable: String,
    /// How long it may take from asleep to its first byte; it gets half an hour at least.
    pub start_up: Duration,
    /// Tokens of its context.
    pub context: u64,
    /// Tokens of an answer.
    pub max_output: Option<u64>,
    /// Whether it calls tools.
    pub tools: bool,
}

/// One server that answers for every model of the catalogue, as a replay of recorded conversations does.
#[derive(Clone, Debug)]
pub struct StandIn {
    /// Its address, with `/v1`.
    pub api_base: String,
    /// The variable with its key.
    pub key_variable: String,
}

/// What the proxy is to serve, and how.
#[derive(Clone, Debug)]
pub struct Wanted<'c> {
    /// The versions that it will run with.
    pub set: &'c VersionSet,
    /// Models of providers.
    pub offers: Vec<Offer<'c>>,
    /// Models of one's own.
    pub own: Vec<OwnModel>,
    /// Answers for every model of `offers` in its provider's place. Prices stay.
    pub stand_in: Option<StandIn>,
    /// Whether calls become traces in Langfuse.
    pub traces: bool,
    /// Whether the hook checks keys. Without it the master key is the only one.
    pub checks_keys: bool,
}

impl<'c> Wanted<'c> {
    /// The models of a catalogue whose providers are complete, with traces and the hook.
    pub fn new(
        set: &'c VersionSet,
        catalogue: &'c Catalogue,
        is_set: impl Fn(&str) -> bool,
    ) -> Self {
        let offers = catalogue.offers(is_set);
        Self { set, offers, own: Vec::new(), stand_in: None, traces: true, checks_keys: true }
    }

    /// Every model of a catalogue, answered by one server: no provider is needed.
    pub fn with_stand_in(set: &'c VersionSet, catalogue: &'c Catalogue, stand_in: StandIn) -> Self {
        Self { stand_in: Some(stand_in), ..Self::new(set, catalogue, |_| true) }
    }
}

/// Longest answer of a cloud model.
const CLOUD_TIMEOUT: Duration = Duration::from_secs(600);
/// What a model of one's own gets at least: to wake, and to answer.
const OWN_TIMEOUT: Duration = Duration::from_secs(1800);

/// Writes the configuration.
pub fn generate(wanted: &Wanted<'_>) -> ProxyConfig {
    let mut config = ProxyConfig::new();
    for offer in &wanted.offers {
        let comment = format!("{}: {}", offer.model.name, offer.model.summary);
        let mut entry = cloud_entry(offer);
        if let Some(stand_in) = &wanted.stand_in {
            replace(&mut entry, stand_in);
        }
        config.push(&entry, Some(&comment));
    }
    for own in &wanted.own {
        let comment =
            format!("{}: on a server of our own, which sleeps while nobody asks", own.name);
        config.push(&own_entry(own), Some(&comment));
    }
    if wanted.offers.is_empty() && wanted.own.is_empty() {
        config.set("litellm_settings", "drop_params", Node::bool(true));
    }
    litellm_settings(&mut config, wanted);
    router_settings(&mut config);
    general_settings(&mut config, wanted);
    config.set_heading(&format!(
        "Configuration of the LiteLLM proxy {}, written by `cargo xtask litellm config`; edits are lost.\n\
         Models and prices come from the model catalogue, secrets from the environment.",
        wanted.set.litellm
    ));
    config
}

fn cloud_entry(offer: &Offer<'_>) -> ModelEntry {
    let (model, via, provider) = (offer.model, offer.via, offer.provider);
    let mut entry = ModelEntry::new(&*model.name, format!("{}/{}", provider.prefix, via.model));
    entry.api_base = provider.base.as_deref().map(Value::variable);
    entry.api_key = Some(Value::variable(&*provider.key));
    entry.api_version.clone_from(&provider.api_version);
    entry.timeout = Some(CLOUD_TIMEOUT);
    entry.base_model.clone_from(&via.base_model);
    entry.mode = Some(model.mode.clone());
    entry.input_cost_per_token = Some(a_token(via.input));
    entry.output_cost_per_token = Some(a_token(via.output));
    entry.cache_read_input_token_cost = via.cached_input.map(a_token);
    entry.max_input_tokens = Some(model.context);
    entry.max_output_tokens = model.max_output;
    entry.supports_function_calling = Some(model.tools);
    entry
}

fn replace(entry: &mut ModelEntry, stand_in: &StandIn) {
    entry.model = format!("hosted_vllm/{}", entry.name);
    entry.api_base = Some(Value::literal(&*stand_in.api_base));
    entry.api_key = Some(Value::variable(&*stand_in.key_variable));
    entry.api_version = None;
}

/// From the price of a million: in twelve decimals, so that 0.05 is 0.00000005 and not a digit more.
fn a_token(million: f64) -> f64 {
    let exact = format!("{:.14}", million / TOKENS_OF_A_PRICE);
    exact.parse().unwrap_or(million / TOKENS_OF_A_PRICE)
}

fn own_entry(own: &OwnModel) -> ModelEntry {
    let mut entry = ModelEntry::new(&*own.name, format!("hosted_vllm/{}", own.served_name));
    let timeout = OWN_TIMEOUT.max(own.start_up + CLOUD_TIMEOUT);
    entry.api_base = Some(Value::literal(&*own.api_base));
    entry.api_key = Some(Value::variable(&*own.key_variable));
    entry.timeout = Some(timeout);
    entry.stream_timeout = Some(timeout);
    entry.num_retries = Some(0);
    entry.more_params = Map::default().with("max_retries", Node::int(0));
    entry.mode = Some("chat".to_owned());
    entry.input_cost_per_token = Some(0.0);
    entry.output_cost_per_token = Some(0.0);
    entry.max_input_tokens = Some(own.context);
    entry.max_output_tokens = own.max_output;
    entry.supports_function_calling = Some(own.tools);
    entry.scale_to_zero = true;
    entry
}

fn litellm_settings(config: &mut ProxyConfig, wanted: &Wanted<'_>) {
    let block = "litellm_settings";
    if wanted.traces {
        config.set(block, "callbacks", Node::strings(["langfuse"]));
    }
    config.set(
        block,
        "drop_params",
        right(Node::bool(true), "gpt-5* take no temperature; it is left out instead of refused"),
    );
    config.set(block, "request_timeout", Node::int(1800));
    if wanted.checks_keys {
        config.set(
            block,
            "enable_post_custom_auth_checks",
            right(Node::bool(true), "the hook's models, rates and budgets count"),
        );
        config.set(
            block,
            "include_cost_in_streaming_usage",
            right(Node::bool(true), "the door keeps budgets by what answers say they cost"),
        );
    }
}

fn router_settings(config: &mut ProxyConfig) {
    let block = "router_settings";
    config.set(block, "num_retries", Node::int(2));
    config.set(
        block,
        "disable_cooldowns",
        right(Node::bool(true), "one deployment a model: a 404 must not shut everybody out"),
    );
    let never = ["TimeoutErrorRetries", "BadRequestErrorRetries", "AuthenticationErrorRetries"];
    let policy = never.into_iter().fold(Map::default(), |map, key| map.with(key, Node::int(0)));
    config.set(block, "retry_policy", Node::map(policy));
}

fn general_settings(config: &mut ProxyConfig, wanted: &Wanted<'_>) {
    let block = "general_settings";
    config.set(block, "master_key", Value::variable("LITELLM_MASTER_KEY").to_node());
    config.set(
        block,
        "disable_model_info_refresh",
        right(Node::bool(true), "or the proxy wakes every sleeping model, every five minutes"),
    );
    if wanted.checks_keys {
        config.set(block, "custom_auth", Node::string(hook::CUSTOM_AUTH));
        config.set(block, "custom_auth_run_common_checks", Node::bool(true));
    }
}

fn right(mut node: Node, comment: &str) -> Node {
    node.right = Some(format!(" {comment}"));
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::{Context, Environment, Level, lint};

    fn own() -> OwnModel {
        OwnModel {
            name: "qwen3-4b-local".to_owned(),
            served_name: "Qwen/Qwen3-4B-Instruct-2507".to_owned(),
            api_base: "https://models.example/v1".to_owned(),
            key_variable: "GOAT_VLLM_KEY".to_owned(),
            start_up: Duration::from_secs(900),
            context: 32_768,
            max_output: Some(8_192),
            tools: true,
        }
    }

    fn text(set: &VersionSet, variables: &[&str]) -> String {
        let catalogue = Catalogue::builtin().unwrap();
        let mut wanted = Wanted::new(set, &catalogue, |name| variables.contains(&name));
        wanted.own.push(own());
        generate(&wanted).render()
    }

    #[test]
    fn the_configuration_reads_well() {
        let text =
            text(VersionSet::default_set(), &["AZURE_API_KEY", "AZURE_API_BASE", "GROQ_API_KEY"]);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_linter_has_nothing_to_say_of_it_in_any_set() {
        let variables = [
            "AZURE_API_KEY",
            "AZURE_API_BASE",
            "OPENAI_API_KEY",
            "GROQ_API_KEY",
            "ANTHROPIC_API_KEY",
        ];
        let more = [
            "GOAT_VLLM_KEY",
            "LANGFUSE_PUBLIC_KEY",
            "LANGFUSE_SECRET_KEY",
            "LANGFUSE_HOST",
            "LITELLM_MASTER_KEY",
        ];
        for set in VersionSet::all() {
            let mut context = Context::new(set);
            let value = |name: &str| (name.to_owned(), "a-long-value-0123456789".to_owned());
            context.environment =
                Environment::complete(variables.iter().chain(&more).map(|name| value(name)));
            context.langfuse_server = Some(set.langfuse_servers[0]);
            let report = lint(&text(set, &variables), &context);
            assert!(report.findings.is_empty(), "{:#?}", report.findings);
            assert_eq!(report.worst(), None::<Level>);
        }
    }

    #[test]
    fn nothing_configured_is_still_a_configuration() {
        let catalogue = Catalogue::builtin().unwrap();
        let wanted = Wanted::new(VersionSet::default_set(), &catalogue, |_| false);
        let config = generate(&wanted);
        assert!(config.models().is_empty());
        assert!(config.is_on("general_settings", "custom_auth_run_common_checks"));
    }

    #[test]
    fn a_stand_in_answers_for_every_model_at_the_same_prices() {
        let catalogue = Catalogue::builtin().unwrap();
        let api_base = "http://127.0.0.1:9/v1".to_owned();
        let stand_in = StandIn { api_base, key_variable: "REPLAY_KEY".to_owned() };
        let wanted = Wanted::with_stand_in(VersionSet::default_set(), &catalogue, stand_in);
        let models = generate(&wanted).models();
        assert_eq!(models.len(), catalogue.models.len());
        assert_eq!(models[0].model, "hosted_vllm/gpt-5-nano");
        assert_eq!(models[0].input_cost_per_token, Some(5e-8));
    }

    #[test]
    fn prices_are_exact() {
        assert_eq!(Node::float(a_token(0.05)).text(), Some("0.00000005"));
        assert_eq!(Node::float(a_token(0.59)).text(), Some("0.00000059"));
        assert_eq!(Node::float(a_token(10.0)).text(), Some("0.00001"));
        assert_eq!(Node::float(a_token(0.0)).text(), Some("0.0"));
    }

    #[test]
    fn what_is_written_is_read_again_the_same() {
        let first = text(VersionSet::default_set(), &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"]);
        let config = ProxyConfig::parse(&first).unwrap();
        assert_eq!(config.render(), first);
        let mut again = ProxyConfig::new();
        config.models().iter().for_each(|entry| again.push(entry, None));
        let entries = |config: &ProxyConfig| format!("{:?}", config.models());
        assert_eq!(
            entries(&ProxyConfig::parse(&again.render()).unwrap()).replace(char::is_numeric, ""),
            entries(&config).replace(char::is_numeric, "")
        );
    }
}
