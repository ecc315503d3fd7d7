//! Max_budget of the whole proxy, without a database.
//!
//! The proxy starts with one WARNING and enforces nothing: 18 US dollars were spent at a budget of 0.0000001.

use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "budget-without-database",
    level: Level::Warning,
    summary: "max_budget of the whole proxy, without a database",
    happens: "the proxy starts with one WARNING and enforces nothing: 18 US dollars were spent at a budget of 0.0000001",
    mend: "give each entry max_budget and budget_duration in litellm_params (kept in memory), or count the cost outside",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    if subject.has_database() {
        return;
    }
    for block in ["litellm_settings", "general_settings"] {
        if let Some(node) = subject
            .setting(block, "max_budget")
            .filter(|node| node.as_number() != Some(0.0) && !node.is_null())
        {
            findings.at(node, format!("{block}.max_budget"), "without a database it is not kept");
        }
    }
}
