//! A model that scales to zero has less time than it needs to wake.
//!
//! The first request ends with 408 while the GPU still starts, after three attempts in all: the cold model gets
//! the prompt three times.

use crate::yaml::Node;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "sleeping-model-timeout",
    level: Level::Warning,
    summary: "a model that scales to zero has less time than it needs to wake",
    happens: "the first request ends with 408 while the GPU still starts, after three attempts in all: the cold model gets the prompt three times",
    mend: "set timeout and stream_timeout to its start-up limit and the longest answer: 900 to 1800",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let needed = subject.context.start_up.as_secs_f64();
    for model in subject.sleeping() {
        for key in ["timeout", "stream_timeout", "request_timeout"] {
            if let Some(node) = model.param(key) {
                told(node, &model.path(&format!("litellm_params.{key}")), needed, findings);
            }
        }
        let own = model.param("timeout").is_some() || model.param("request_timeout").is_some();
        if own {
            continue;
        }
        for (block, key) in
            [("litellm_settings", "request_timeout"), ("router_settings", "timeout")]
        {
            if let Some(node) = subject.setting(block, key) {
                told(node, &format!("{block}.{key}"), needed, findings);
            }
        }
    }
    // Several models make the same mistake of a setting once.
    let mut seen = std::collections::BTreeSet::new();
    findings.all.retain(|finding| seen.insert(finding.path.clone()));
}

fn told(node: &Node, path: &str, needed: f64, findings: &mut Findings) {
    if let Some(seconds) = node.as_number().filter(|seconds| *seconds < needed) {
        findings.at(
            node,
            path,
            format!("{seconds} s are fewer than the {needed} s that the model may take to wake"),
        );
    }
}
