//! A model on a server of one's own, without api_base.
//!
//! The proxy starts and says nothing; hosted_vllm and openai send the request, with the prompt, to
//! api.openai.com; azure fails with 500 'Must provide azure_endpoint'.

use crate::lint::subject::Provider;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "missing-api-base",
    level: Level::Error,
    summary: "a model on a server of one's own, without api_base",
    happens: "the proxy starts and says nothing; hosted_vllm and openai send the request, with the prompt, to api.openai.com; azure fails with 500 'Must provide azure_endpoint'",
    mend: "write api_base, as https://host/v1",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let environment = &subject.context.environment;
    for model in &subject.models {
        let Provider::Known(provider) = model.provider() else { continue };
        let elsewhere = subject.setting("litellm_settings", "api_base").is_some()
            || model.param("litellm_credential_name").is_some()
            || model.param("region_name").is_some() && provider == "azure"
            || model.param("configurable_clientside_auth_params").is_some();
        if model.has_base() || elsewhere {
            continue;
        }
        let bare = model.bare_model().unwrap_or_default();
        let (variables, what): (&[&str], _) = match provider {
            "hosted_vllm" => (&["HOSTED_VLLM_API_BASE"], "its requests go to api.openai.com"),
            // A name with a slash, or of a Llama, is no model of OpenAI.
            "openai" if is_foreign(bare) => {
                (&["OPENAI_BASE_URL", "OPENAI_API_BASE"], "its requests go to api.openai.com")
            }
            "azure" => (&["AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"], "its requests fail"),
            _ => continue,
        };
        let set_here = subject.block("environment_variables");
        let is_set = |name: &&str| {
            environment.get(name).is_some()
                || set_here.is_some_and(|block| block.get(name).is_some())
        };
        if variables.iter().any(is_set) {
            continue;
        }
        // Where the environment is not known, the variable may be set there.
        let level = match (environment.is_complete(), provider) {
            (true, _) | (_, "hosted_vllm") => Level::Error,
            (_, "openai") => Level::Warning,
            _ => Level::Note,
        };
        let node = model.param("model").unwrap_or(model.node);
        let message =
            format!("{} has no api_base: {what}, unless {} is set", model.label(), variables[0]);
        findings.at(node, model.path("litellm_params"), message).level(level);
    }
}

/// Whether OpenAI serves no such model.
fn is_foreign(bare: &str) -> bool {
    let lower = bare.to_ascii_lowercase();
    let families = [
        "llama",
        "qwen",
        "mistral",
        "mixtral",
        "gemma",
        "deepseek",
        "phi-",
        "yi-",
        "gpt-oss",
        "vicuna",
        "codellama",
    ];
    let is_route =
        ["responses/", "chat/", "container/", "ft:"].iter().any(|route| lower.starts_with(route));
    (bare.contains('/') && !is_route) || families.iter().any(|family| lower.starts_with(family))
}
