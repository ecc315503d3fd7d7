//! Model_list is not a list of entries with model_name and litellm_params.model.
//!
//! A mapping ends the proxy with exit code 1, an entry without model_name, litellm_params or model with exit code
//! 3 and a KeyError; an empty list starts, and every request gets 400.

use crate::{known::nearest, lint::subject::Model, yaml::Node};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "model-list",
    level: Level::Error,
    summary: "model_list is not a list of entries with model_name and litellm_params.model",
    happens: "a mapping ends the proxy with exit code 3 and an AttributeError, an entry without model_name, litellm_params or model with a KeyError; an empty list starts, and every request gets 400",
    mend: "give each entry model_name and litellm_params with model",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(list) = subject.top("model_list") else {
        if subject.document.root.is_none() || !subject.has_models_elsewhere() {
            findings
                .whole("model_list", "there is no model_list: the proxy serves no model")
                .level(Level::Warning);
        }
        return;
    };
    match list.as_list() {
        None if list.is_null() => empty(list, subject, findings),
        None => {
            findings.at(list, "model_list", "it is not a list");
        }
        Some([]) => empty(list, subject, findings),
        Some(_) => subject.models.iter().for_each(|model| entry(model, findings)),
    }
}

fn empty(list: &Node, subject: &Subject<'_>, findings: &mut Findings) {
    if !subject.has_models_elsewhere() {
        findings.at(list, "model_list", "it is empty: every request gets 400");
    }
}

fn entry(model: &Model<'_>, findings: &mut Findings) {
    let Some(map) = model.node.as_map() else {
        findings.at(model.node, model.path(""), "the entry is not a mapping");
        return;
    };
    if map.get("model_name").is_none_or(Node::is_null) {
        let named = map
            .strings()
            .into_iter()
            .find(|(key, ..)| nearest(key, ["model_name"].into_iter()).is_some());
        let finding = findings.at(model.node, model.path(""), "the entry has no model_name");
        if let Some((key, node, _)) = named {
            finding.message = format!("the entry has no model_name; is `{key}` meant to be it?");
            finding.fix(node.place.range(), "model_name");
        }
    }
    match map.get("litellm_params").map(|node| (node, node.as_map())) {
        None => {
            findings.at(
                model.node,
                model.path(""),
                format!("{} has no litellm_params", model.label()),
            );
        }
        Some((node, None)) => {
            findings.at(node, model.path("litellm_params"), "it is not a mapping");
        }
        Some((node, Some(params))) if params.get("model").is_none_or(Node::is_null) => {
            findings.at(
                node,
                model.path("litellm_params"),
                format!("{} has no model", model.label()),
            );
        }
        Some(_) => {}
    }
}
