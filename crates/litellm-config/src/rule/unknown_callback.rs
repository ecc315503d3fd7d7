//! A callback that LiteLLM does not have.
//!
//! In callbacks the proxy does not start (exit code 3, 'Empty module name'); in success_callback and
//! failure_callback it starts, and nothing is logged anywhere.

use crate::{known, lint::subject::ENV, yaml::Node};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-callback",
    level: Level::Error,
    summary: "a callback that LiteLLM does not have",
    happens: "in callbacks the proxy does not start (exit code 3, 'Empty module name'); in success_callback and failure_callback it starts, and nothing is logged anywhere",
    mend: "mend the name; a callback of one's own is written module.object",
    check,
};

const LISTS: &[&str] = &[
    "callbacks",
    "success_callback",
    "failure_callback",
    "service_callback",
    "audit_log_callbacks",
];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for key in LISTS {
        for node in list(subject, key) {
            let Some(name) = node.as_str() else { continue };
            // A dot: a module of one's own; see also `callback_settings`.
            let own = subject.setting("callback_settings", name).is_some()
                || name.contains('.')
                || name.starts_with(ENV);
            if own || known::CALLBACKS.has(name) {
                continue;
            }
            let finding = findings.at(
                node,
                format!("litellm_settings.{key}"),
                format!("LiteLLM has no callback `{name}`"),
            );
            if let Some(meant) = known::CALLBACKS.meant(name) {
                finding.message += &format!("; is `{meant}` meant?");
                finding.fix(node.place.range(), meant);
            }
        }
    }
}

/// The names in a list of callbacks, or the one that stands alone.
pub(crate) fn list<'a>(subject: &Subject<'a>, key: &str) -> Vec<&'a Node> {
    match subject.setting("litellm_settings", key) {
        None => Vec::new(),
        Some(node) => node.as_list().map_or_else(|| vec![node], |items| items.iter().collect()),
    }
}

/// Where a callback of that name stands.
pub(crate) fn find<'a>(subject: &Subject<'a>, name: &str) -> Option<(&'static str, &'a Node)> {
    LISTS.iter().find_map(|key| {
        list(subject, key)
            .into_iter()
            .find(|node| node.text() == Some(name))
            .map(|node| (*key, node))
    })
}
