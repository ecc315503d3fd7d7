//! Rpm or tpm with the routing strategy simple-shuffle is no limit.
//!
//! The number only weighs the choice between several deployments: with rpm: 1 three requests of three pass.

use crate::yaml::Node;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "rpm-is-a-weight",
    level: Level::Note,
    summary: "rpm or tpm with the routing strategy simple-shuffle is no limit",
    happens: "the number only weighs the choice between several deployments: with rpm: 1 three requests of three pass",
    mend: "limit keys (rpm_limit of a token), or take a usage-based routing strategy",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let strategy = subject.setting("router_settings", "routing_strategy").and_then(Node::text);
    let checked = subject.setting("router_settings", "optional_pre_call_checks").is_some();
    if strategy.is_some_and(|it| it != "simple-shuffle") || checked {
        return;
    }
    for model in &subject.models {
        let alone = subject.models.iter().filter(|other| other.name() == model.name()).count() == 1;
        if let (Some(node), true) = (model.param("rpm").or_else(|| model.param("tpm")), alone) {
            findings.at(
                node,
                model.path("litellm_params"),
                format!("{} is not limited by it", model.label()),
            );
        }
    }
}
