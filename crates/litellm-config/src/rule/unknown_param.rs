//! A key in litellm_params that LiteLLM does not know.
//!
//! The proxy starts; the key is sent upstream in the body of every request: OpenAI and Azure refuse it with 400,
//! others ignore it.

use crate::{
    known,
    lint::subject::{Model, Provider},
    yaml::{Map, Node},
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-param",
    level: Level::Error,
    summary: "a key in litellm_params that LiteLLM does not know",
    happens: "the proxy starts; the key is sent upstream in the body of every request: OpenAI and Azure refuse it with 400, others ignore it",
    mend: "mend its name; what the model's server really wants goes into extra_body",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        for (key, node, _) in model.params.map(Map::strings).unwrap_or_default() {
            if !known::LITELLM_PARAMS.has(key) {
                told(model, key, node, findings);
            }
        }
    }
}

fn told(model: &Model<'_>, key: &str, node: &Node, findings: &mut Findings) {
    let path = model.path(&format!("litellm_params.{key}"));
    if let Some(meant) = known::LITELLM_PARAMS.meant(key) {
        let message =
            format!("`{key}` is sent to the model's server as it is; is `{meant}` meant?");
        let finding = findings.at(node, path, message);
        let is_there = model.params.is_some_and(|params| params.get(meant).is_some());
        if !is_there {
            finding.fix(node.place.range(), meant);
        }
        return;
    }
    let provider = model.provider();
    let refuses = matches!(provider, Provider::Known("openai" | "azure")) && !model.has_base();
    let level = if refuses { Level::Warning } else { Level::Note };
    let message =
        format!("LiteLLM does not know `{key}`; it is sent to the model's server as it is");
    findings.at(node, path, message).level(level);
}
