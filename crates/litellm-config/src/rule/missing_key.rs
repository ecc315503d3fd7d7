//! A model of a provider that wants a key, without one.
//!
//! The proxy starts and says nothing; requests fail with 500 'Missing credentials' after three attempts, groq is
//! asked without any key.

use crate::lint::subject::Provider;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "missing-key",
    level: Level::Error,
    summary: "a model of a provider that wants a key, without one",
    happens: "the proxy starts and says nothing; requests fail with 500 'Missing credentials' after three attempts, groq is asked without any key",
    mend: "write api_key: os.environ/NAME, or set the provider's own variable, or leave the entry out",
    check,
};

/// The variable that LiteLLM takes where the entry has no key.
const VARIABLES: &[(&str, &[&str])] = &[
    ("openai", &["OPENAI_API_KEY"]),
    ("azure", &["AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_AD_TOKEN", "AZURE_CLIENT_ID"]),
    ("groq", &["GROQ_API_KEY"]),
    ("anthropic", &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"]),
    ("mistral", &["MISTRAL_API_KEY"]),
    ("deepseek", &["DEEPSEEK_API_KEY"]),
    ("gemini", &["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
];
/// Other ways to show who one is.
const OTHERS: &[&str] = &[
    "api_key",
    "azure_ad_token",
    "azure_ad_token_provider",
    "client_id",
    "litellm_credential_name",
    "tenant_id",
    "azure_username",
];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let environment = &subject.context.environment;
    for model in &subject.models {
        let Provider::Known(provider) = model.provider() else { continue };
        let Some((_, variables)) = VARIABLES.iter().find(|(name, _)| *name == provider) else {
            continue;
        };
        let settings = subject.setting("litellm_settings", "api_key").is_some()
            || subject.setting("litellm_settings", "openai_key").is_some()
            || subject.top("credential_list").is_some()
            || subject.is_on("general_settings", "forward_llm_provider_auth_headers")
            || subject.is_on("litellm_settings", "enable_azure_ad_token_refresh")
            || model.param("configurable_clientside_auth_params").is_some();
        let is_empty = model.param("api_key").is_some_and(|node| node.text() == Some(""));
        let has_one = OTHERS.iter().any(|key| model.param(key).is_some()) && !is_empty;
        let set_here = subject.block("environment_variables");
        let is_set = |name: &&str| {
            environment.get(name).is_some()
                || set_here.is_some_and(|block| block.get(name).is_some())
        };
        if has_one || settings || variables.iter().any(is_set) || !environment.is_complete() {
            continue;
        }
        let node = model.param("model").unwrap_or(model.node);
        let message = format!("{} has no api_key, and {} is not set", model.label(), variables[0]);
        findings.at(node, model.path("litellm_params"), message);
    }
}
