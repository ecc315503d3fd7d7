//! The proxy itself wakes models that scale to zero.
//!
//! From 1.103 on the proxy asks GET <api_base>/v1/models of every such model at its start and every 300 s: each
//! time a GPU starts; 1.102 does not.

use crate::{
    lint::subject::{Model, Provider},
    yaml::Node,
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "wakes-sleeping-models",
    level: Level::Error,
    summary: "the proxy itself wakes models that scale to zero",
    happens: "from 1.103 on the proxy asks GET <api_base>/v1/models of every such model at its start and every 300 s: each time a GPU starts; 1.102 does not",
    mend: "set general_settings.disable_model_info_refresh: true; 1.103 has no such switch, take another version",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let version = subject.context.litellm;
    let probed = |model: &&Model<'_>| {
        matches!(
            model.provider(),
            Provider::Known("openai" | "hosted_vllm" | "text-completion-openai" | "openai_like")
        )
    };
    let sleeping: Vec<_> = subject.sleeping().filter(probed).collect();
    let Some(first) = sleeping.first() else { return };
    if !version.probes_upstreams() {
        return;
    }
    let node = first.param("api_base").unwrap_or(first.node);
    let path = first.path("litellm_params.api_base");
    let count = sleeping.len();
    if !version.has_probe_switch() {
        let message = format!(
            "LiteLLM {version} wakes {count} sleeping model(s) and has no switch against it"
        );
        findings.at(node, path, message).mend("take LiteLLM 1.102.4, or 1.104 and later");
        return;
    }
    if subject.is_on("general_settings", "disable_model_info_refresh") {
        return;
    }
    let message =
        format!("LiteLLM {version} wakes {count} sleeping model(s), {} first", first.label());
    let finding = findings.at(node, path, message);
    match subject.document.map().and_then(|root| root.entry("general_settings")) {
        Some((_, block)) => {
            let map = block.as_map().filter(|map| !map.is_flow && block.alias.is_none());
            if let Some((key, _)) = map.and_then(|map| map.entries.first())
                && map.is_some_and(|map| map.get("disable_model_info_refresh").is_none())
            {
                let indent = " ".repeat(key.place.column - 1);
                let start = key.place.start;
                finding.fix(start..start, format!("disable_model_info_refresh: true\n{indent}"));
            }
        }
        None => {
            let root = subject.document.root.as_ref().and_then(Node::as_map);
            if let Some((key, _)) =
                root.filter(|map| !map.is_flow).and_then(|map| map.entries.first())
            {
                let start = key.place.start;
                finding
                    .fix(start..start, "general_settings:\n  disable_model_info_refresh: true\n");
            }
        }
    }
}
