//! A duration that LiteLLM does not read.
//!
//! The proxy starts and says nothing; in an entry's budget the first request fails, the proxy's own budget is
//! never reset.

use crate::{lint::subject::ENV, yaml::Node};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "bad-duration",
    level: Level::Warning,
    summary: "a duration that LiteLLM does not read",
    happens: "the proxy starts and says nothing; in an entry's budget the first request fails, the proxy's own budget is never reset",
    mend: "write a number and s, m, h, d, w or mo, as 30d or 1mo",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let settings =
        [("litellm_settings", "budget_duration"), ("general_settings", "budget_duration")];
    for (block, key) in settings {
        if let Some(node) = subject.setting(block, key) {
            told(node, format!("{block}.{key}"), findings);
        }
    }
    for model in &subject.models {
        if let Some(node) = model.param("budget_duration") {
            told(node, model.path("litellm_params.budget_duration"), findings);
        }
        if let (Some(node), None) = (model.param("max_budget"), model.param("budget_duration")) {
            let message =
                format!("{} has max_budget without budget_duration: it is not kept", model.label());
            findings.at(node, model.path("litellm_params.max_budget"), message);
        }
    }
}

fn told(node: &Node, path: String, findings: &mut Findings) {
    let text = node.text().unwrap_or_default();
    if is_duration(text) || node.is_null() || text.starts_with(ENV) {
        return;
    }
    let finding = findings.at(node, path, format!("`{text}` is no duration"));
    let meant = spelt(text);
    if let (Some(meant), None) = (meant, &node.alias) {
        finding.fix(node.place.range(), meant);
    }
}

fn is_duration(text: &str) -> bool {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    digits > 0 && matches!(&text[digits..], "s" | "m" | "h" | "d" | "w" | "mo")
}

/// `1 month` as `1mo`.
fn spelt(text: &str) -> Option<String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().trim_end_matches('s') {
        "second" | "sec" => "s",
        "minute" | "min" => "m",
        "hour" | "hr" => "h",
        "day" => "d",
        "week" => "w",
        "month" => "mo",
        _ => return None,
    };
    (digits > 0).then(|| format!("{number}{unit}"))
}
