//! A key in a block of settings that LiteLLM does not know.
//!
//! The proxy starts; only router_settings gets a WARNING in the log, the others none; the setting is without
//! effect.

use crate::{
    known,
    yaml::{Map, Node},
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-setting",
    level: Level::Warning,
    summary: "a key in a block of settings that LiteLLM does not know",
    happens: "the proxy starts; only router_settings gets a WARNING in the log, the others none; the setting is without effect",
    mend: "mend its name, or take it out",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let blocks = [
        ("litellm_settings", &known::LITELLM_SETTINGS),
        ("general_settings", &known::GENERAL_SETTINGS),
        ("router_settings", &known::ROUTER_SETTINGS),
    ];
    for (name, known) in blocks {
        if let Some(block) = subject.block(name) {
            keys(block, name, known, findings);
        }
    }
    let policy = subject.setting("router_settings", "retry_policy");
    if let Some(policy) = policy.and_then(Node::as_map) {
        keys(policy, "router_settings.retry_policy", &known::RETRY_POLICY, findings);
    }
    let policies =
        subject.setting("router_settings", "model_group_retry_policy").and_then(Node::as_map);
    for (model, _, policy) in policies.map(Map::strings).unwrap_or_default() {
        if let Some(policy) = policy.as_map() {
            keys(
                policy,
                &format!("router_settings.model_group_retry_policy.{model}"),
                &known::RETRY_POLICY,
                findings,
            );
        }
    }
}

fn keys(block: &Map, name: &str, known: &known::Known, findings: &mut Findings) {
    for (key, node, _) in block.strings() {
        if known.has(key) {
            continue;
        }
        let path = format!("{name}.{key}");
        let message = format!("LiteLLM knows no `{key}` in `{name}`");
        if let Some(home) = elsewhere(key, name) {
            findings.at(node, path, format!("{message}; it belongs in `{home}`"));
        } else if let Some(meant) = known.meant(key) {
            let finding = findings.at(node, path, format!("{message}; is `{meant}` meant?"));
            if block.get(meant).is_none() {
                finding.fix(node.place.range(), meant);
            }
        } else {
            findings.at(node, path, message);
        }
    }
}

/// The block in which the key is one.
fn elsewhere(key: &str, here: &str) -> Option<&'static str> {
    let blocks = [
        ("general_settings", &known::GENERAL_SETTINGS),
        ("router_settings", &known::ROUTER_SETTINGS),
        ("litellm_settings", &known::LITELLM_SETTINGS),
    ];
    let mut others = blocks.into_iter().filter(|(name, _)| *name != here);
    others.find(|(_, known)| known.has(key)).map(|(name, _)| name)
}
