//! Langfuse is in success_callback alone.
//!
//! Only calls that succeed become traces: a failed call leaves none.

use crate::rule::unknown_callback::list;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "failures-not-logged",
    level: Level::Note,
    summary: "langfuse is in success_callback alone",
    happens: "only calls that succeed become traces: a failed call leaves none",
    mend: "write callbacks: [langfuse], or name it in failure_callback too",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for name in ["langfuse", "langfuse_otel"] {
        let stands =
            |key: &str| list(subject, key).into_iter().find(|node| node.text() == Some(name));
        let elsewhere = stands("callbacks").is_some() || stands("failure_callback").is_some();
        if let (Some(node), false) = (stands("success_callback"), elsewhere) {
            findings.at(node, "litellm_settings.success_callback", "failed calls leave no trace");
        }
    }
}
