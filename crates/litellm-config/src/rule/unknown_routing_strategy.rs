//! A routing strategy that LiteLLM does not have.
//!
//! The proxy does not start: exit code 3, with the list of the valid ones.

use crate::{known, lint::subject::ENV};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-routing-strategy",
    level: Level::Error,
    summary: "a routing strategy that LiteLLM does not have",
    happens: "the proxy does not start: exit code 3, with the list of the valid ones",
    mend: "take one of them",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(node) = subject.setting("router_settings", "routing_strategy") else { return };
    let strategy = node.text().unwrap_or_default();
    if known::STRATEGIES.has(strategy) || node.is_null() || strategy.starts_with(ENV) {
        return;
    }
    let finding = findings.at(
        node,
        "router_settings.routing_strategy",
        format!("LiteLLM has no strategy `{strategy}`"),
    );
    let all: Vec<_> = known::STRATEGIES.all().collect();
    finding.mend(format!("take one of {}", all.join(", ")));
    if let Some(meant) =
        known::nearest(strategy, known::STRATEGIES.all()).filter(|_| node.alias.is_none())
    {
        finding.fix(node.place.range(), meant);
    }
}
