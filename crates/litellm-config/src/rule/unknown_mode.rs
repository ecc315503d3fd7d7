//! Model_info.mode is none of LiteLLM's.
//!
//! The proxy starts and says nothing; requests work, and /health tests the model as if it were a chat model.

use crate::{known, lint::subject::ENV};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-mode",
    level: Level::Warning,
    summary: "model_info.mode is none of LiteLLM's",
    happens: "the proxy starts and says nothing; requests work, and /health tests the model as if it were a chat model",
    mend: "write chat, embedding, completion, responses or another of LiteLLM's modes",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        let Some(node) = model.info_of("mode") else { continue };
        let mode = node.text().unwrap_or_default();
        if known::MODES.has(mode) || mode.starts_with(ENV) || mode == "batch" {
            continue;
        }
        let finding = findings.at(
            node,
            model.path("model_info.mode"),
            format!("LiteLLM knows no mode `{mode}`"),
        );
        if let Some(meant) = known::MODES.meant(mode) {
            finding.fix(node.place.range(), meant);
        }
    }
}
