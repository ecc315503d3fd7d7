//! A block at the top that LiteLLM does not know.
//!
//! The proxy starts and says nothing; everything in the block is without effect.

use crate::known;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-block",
    level: Level::Error,
    summary: "a block at the top that LiteLLM does not know",
    happens: "the proxy starts and says nothing; everything in the block is without effect",
    mend: "mend its name, or take it out",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(root) = subject.document.map() else { return };
    for (key, node) in root.entries.iter().filter_map(|(key, _)| Some((key.as_str()?, key))) {
        // The customary place for anchors.
        if known::TOP.has(key) || key.starts_with("x-") || key.starts_with('.') || key == "<<" {
            continue;
        }
        let message = format!("LiteLLM knows no block `{key}`");
        match known::TOP.meant(key) {
            Some(meant) => {
                let text = format!("{message}; is `{meant}` meant?");
                let finding = findings.at(node, key, text);
                // A second block of that name would only take the place of the first.
                if root.get(meant).is_none() {
                    finding.fix(node.place.range(), meant);
                }
            }
            None => {
                let is_setting = home(key);
                let told = is_setting.map_or(message.clone(), |block| {
                    format!("{message}; `{key}` belongs in `{block}`")
                });
                let level = if is_setting.is_some() { Level::Error } else { Level::Warning };
                findings.at(node, key, told).level(level);
            }
        }
    }
}

/// The block in which LiteLLM looks for such a key.
fn home(key: &str) -> Option<&'static str> {
    let blocks = [
        ("general_settings", &known::GENERAL_SETTINGS),
        ("litellm_settings", &known::LITELLM_SETTINGS),
        ("router_settings", &known::ROUTER_SETTINGS),
    ];
    blocks.into_iter().find(|(_, known)| known.has(key)).map(|(name, _)| name)
}
