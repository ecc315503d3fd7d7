//! Fallbacks that are not a list of {model: [models]}.
//!
//! The proxy does not start: exit code 3, 'Item is not a dictionary'.

use crate::yaml::Node;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "fallback-shape",
    level: Level::Error,
    summary: "fallbacks that are not a list of {model: [models]}",
    happens: "the proxy does not start: exit code 3, 'Item is not a dictionary'",
    mend: "write - {model: [other, another]}",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for fallbacks in lists(subject) {
        if fallbacks.is_default {
            continue;
        }
        let Some(items) = fallbacks.node.as_list() else {
            if !fallbacks.node.is_null() {
                findings.at(fallbacks.node, fallbacks.path, "it is not a list");
            }
            continue;
        };
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", fallbacks.path);
            match item.as_map() {
                None => {
                    let text = item.text().unwrap_or("this");
                    findings.at(
                        item,
                        path,
                        format!("`{text}` is not a mapping of a model to models"),
                    );
                }
                Some(map) => {
                    let bad =
                        map.strings().into_iter().find(|(_, _, value)| value.as_list().is_none());
                    if let Some((model, _, value)) = bad {
                        let message = format!("the fallbacks of `{model}` are not a list");
                        findings.at(value, path, message).level(Level::Warning);
                    }
                }
            }
        }
    }
}

/// One of the lists of fallbacks.
pub(crate) struct Fallbacks<'a> {
    pub(crate) path: String,
    pub(crate) node: &'a Node,
    /// `default_fallbacks`: models alone.
    pub(crate) is_default: bool,
}

/// All of them, of both blocks that may hold them.
pub(crate) fn lists<'a>(subject: &Subject<'a>) -> Vec<Fallbacks<'a>> {
    let mut found = Vec::new();
    for block in ["litellm_settings", "router_settings"] {
        for key in [
            "fallbacks",
            "context_window_fallbacks",
            "content_policy_fallbacks",
            "default_fallbacks",
        ] {
            if let Some(node) = subject.setting(block, key) {
                found.push(Fallbacks {
                    path: format!("{block}.{key}"),
                    node,
                    is_default: key == "default_fallbacks",
                });
            }
        }
    }
    found
}
