//! A model that scales to zero is asked again while it wakes.
//!
//! A time-out is tried three times in all: the waking model gets the prompt three times, and the caller waits
//! three times as long.

use crate::yaml::Node;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "sleeping-model-retries",
    level: Level::Warning,
    summary: "a model that scales to zero is asked again while it wakes",
    happens: "a time-out is tried three times in all: the waking model gets the prompt three times, and the caller waits three times as long",
    mend: "set num_retries: 0 and max_retries: 0 in the entry, or router_settings.retry_policy with TimeoutErrorRetries: 0",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = subject.setting("router_settings", "retry_policy").and_then(Node::as_map);
    let is_zero = |node: Option<&Node>| node.and_then(Node::as_number) == Some(0.0);
    let settled = is_zero(policy.and_then(|policy| policy.get("TimeoutErrorRetries")))
        || policy.is_none() && is_zero(subject.setting("router_settings", "num_retries"))
        || policy.is_none() && is_zero(subject.setting("litellm_settings", "num_retries"));
    for model in subject.sleeping() {
        let own = model.param("num_retries");
        if is_zero(own) || own.is_none() && settled {
            continue;
        }
        let node = own.or_else(|| model.param("model")).unwrap_or(model.node);
        let message =
            format!("{} sleeps, and a request that times out is sent to it again", model.label());
        // Without a time-out of its own there is nothing to try again before LiteLLM's 6000 s.
        let has_timeout = model.param("timeout").is_some()
            || subject.setting("litellm_settings", "request_timeout").is_some()
            || subject.setting("router_settings", "timeout").is_some();
        let level = if has_timeout || own.is_some() { Level::Warning } else { Level::Note };
        findings.at(node, model.path("litellm_params"), message).level(level);
    }
}
