//! Model_group_alias names a model that is not in model_list.
//!
//! The proxy starts and says nothing; requests for the alias get 400.

use crate::yaml::{Map, Node};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-alias",
    level: Level::Error,
    summary: "model_group_alias names a model that is not in model_list",
    happens: "the proxy starts and says nothing; requests for the alias get 400",
    mend: "name a model of model_list",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    if subject.has_models_elsewhere() || subject.models.is_empty() {
        return;
    }
    let aliases = subject.setting("router_settings", "model_group_alias").and_then(Node::as_map);
    for (alias, _, node) in aliases.map(Map::strings).unwrap_or_default() {
        let target = node.as_map().and_then(|map| map.get("model")).unwrap_or(node);
        let Some(text) = target.text() else { continue };
        if !subject.serves(text) {
            let path = format!("router_settings.model_group_alias.{alias}");
            findings.at(target, path, format!("no entry of model_list is named `{text}`"));
        }
    }
}
