//! A fallback from or to a model that is not in model_list.
//!
//! The proxy starts and says nothing; when it is needed the caller gets the first error and 'Fallback to … also
//! failed'; a fallback from an unknown model is never used.

use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};
use crate::{rule::fallback_shape::lists, yaml::Node};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-fallback",
    level: Level::Error,
    summary: "a fallback from or to a model that is not in model_list",
    happens: "the proxy starts and says nothing; when it is needed the caller gets the first error and 'Fallback to … also failed'; a fallback from an unknown model is never used",
    mend: "name models of model_list",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    // With models in a database or another file nobody can tell.
    if subject.has_models_elsewhere() || subject.models.is_empty() {
        return;
    }
    for fallbacks in lists(subject) {
        for item in fallbacks.node.as_list().unwrap_or_default() {
            match item.as_map() {
                None if fallbacks.is_default => target(subject, item, &fallbacks.path, findings),
                None => {}
                Some(map) => {
                    for (from, node, targets) in map.strings() {
                        if !subject.serves(from) && !from.contains('*') {
                            let message =
                                format!("no entry of model_list is named `{from}`: never used");
                            findings
                                .at(node, fallbacks.path.clone(), message)
                                .level(Level::Warning);
                        }
                        for node in targets.as_list().unwrap_or_default() {
                            target(subject, node, &fallbacks.path, findings);
                        }
                    }
                }
            }
        }
    }
}

fn target(subject: &Subject<'_>, node: &Node, path: &str, findings: &mut Findings) {
    // A mapping brings parameters along: its model is the name.
    let name = node.as_map().and_then(|map| map.get("model")).unwrap_or(node);
    let Some(text) = name.text() else { return };
    if !subject.serves(text) {
        findings.at(name, path, format!("no entry of model_list is named `{text}`"));
    }
}
