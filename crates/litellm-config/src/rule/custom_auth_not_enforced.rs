//! Custom_auth without the two switches that make it count.
//!
//! What the hook grants is not checked: a token for one model may call every model, its budget is ignored, and
//! some routes of the administration answer.

use crate::{
    hook,
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "custom-auth-not-enforced",
    level: Level::Error,
    summary: "custom_auth without the two switches that make it count",
    happens: "what the hook grants is not checked: a token for one model may call every model, its budget is ignored, and some routes of the administration answer",
    mend: "set litellm_settings.enable_post_custom_auth_checks: true and general_settings.custom_auth_run_common_checks: true",
    check,
};

const SWITCHES: &[(&str, &str)] = &[
    ("litellm_settings", "enable_post_custom_auth_checks"),
    ("general_settings", "custom_auth_run_common_checks"),
];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(node) =
        subject.setting("general_settings", "custom_auth").filter(|node| !node.is_null())
    else {
        return;
    };
    let missing: Vec<_> = SWITCHES
        .iter()
        .filter(|(block, key)| !subject.is_on(block, key))
        .map(|(block, key)| format!("{block}.{key}"))
        .collect();
    if !missing.is_empty() {
        let message = format!("{} not on", missing.join(" and "));
        // A hook of somebody else's may keep to its limits itself.
        let is_ours = node.text() == Some(hook::CUSTOM_AUTH);
        let level = if is_ours { Level::Error } else { Level::Warning };
        findings.at(node, "general_settings.custom_auth", message).level(level);
    }
}
