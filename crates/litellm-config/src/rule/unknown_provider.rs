//! A model without a provider that LiteLLM knows.
//!
//! The proxy starts with an ERROR 'LLM Provider NOT provided' in its log and drops the entry; requests for it get
//! 400, 'no healthy deployments'.

use crate::{
    known,
    lint::subject::{Model, Provider},
    yaml::Node,
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-provider",
    level: Level::Error,
    summary: "a model without a provider that LiteLLM knows",
    happens: "the proxy starts with an ERROR 'LLM Provider NOT provided' in its log and drops the entry; requests for it get 400, 'no healthy deployments'",
    mend: "write <provider>/<model>, as azure/gpt-4o-mini or hosted_vllm/org/name",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let custom = subject.setting("litellm_settings", "custom_provider_map").and_then(Node::as_list);
    let custom: Vec<&str> = custom
        .unwrap_or_default()
        .iter()
        .filter_map(|entry| entry.as_map()?.get("provider")?.text())
        .collect();
    for model in &subject.models {
        let (Provider::Unknown, Some(node), Some(text)) =
            (model.provider(), model.param("model"), model.model())
        else {
            continue;
        };
        let (prefix, rest) =
            text.split_once('/').map_or((None, text), |(prefix, rest)| (Some(prefix), rest));
        if prefix.is_some_and(|prefix| custom.contains(&prefix)) || is_served_by_its_base(model) {
            continue;
        }
        let path = model.path("litellm_params.model");
        match prefix {
            Some(prefix) => {
                let finding =
                    findings.at(node, path, format!("LiteLLM knows no provider `{prefix}`"));
                if let Some(meant) = known::PROVIDERS.meant(prefix) {
                    finding.message += &format!("; is `{meant}` meant?");
                    finding.fix(node.place.range(), format!("{meant}/{rest}"));
                }
            }
            None => {
                findings.at(
                    node,
                    path,
                    format!("`{text}` names no provider, and LiteLLM does not know the model"),
                );
            }
        }
    }
}

/// A few public addresses tell LiteLLM the provider (its `openai_compatible_endpoints`).
fn is_served_by_its_base(model: &Model<'_>) -> bool {
    model.base().is_some_and(|(host, _)| {
        ["api.", "inference.", ".ai", "integrate."].iter().any(|part| host.contains(part))
            && !host.contains("localhost")
    })
}
