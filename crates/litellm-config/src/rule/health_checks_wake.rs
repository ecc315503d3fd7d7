//! Background health checks with models that scale to zero.
//!
//! The proxy calls every model on a timer, for real: each time a GPU starts.

use crate::{lint::subject::Model, yaml::Node};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "health-checks-wake",
    level: Level::Error,
    summary: "background health checks with models that scale to zero",
    happens: "the proxy calls every model on a timer, for real: each time a GPU starts",
    mend: "take background_health_checks out, or give the sleeping models model_info.disable_background_health_check: true",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    if !subject.is_on("general_settings", "background_health_checks") {
        return;
    }
    let awake = |model: &&Model<'_>| {
        model.info_of("disable_background_health_check").and_then(Node::as_bool) != Some(true)
    };
    let names: Vec<_> = subject.sleeping().filter(awake).map(Model::label).collect();
    if let (Some(node), false) =
        (subject.setting("general_settings", "background_health_checks"), names.is_empty())
    {
        findings.at(
            node,
            "general_settings.background_health_checks",
            format!("it wakes {}", names.join(", ")),
        );
    }
}
