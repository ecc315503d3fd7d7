//! A callback to Langfuse without LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY.
//!
//! The proxy starts; langfuse loses every trace without a word; langfuse_otel prints prompts and answers into the
//! proxy's log.

use crate::rule::unknown_callback::find;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "langfuse-keys",
    level: Level::Error,
    summary: "a callback to Langfuse without LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY",
    happens: "the proxy starts; langfuse loses every trace without a word; langfuse_otel prints prompts and answers into the proxy's log",
    mend: "set both, and LANGFUSE_HOST",
    check,
};

const KEYS: &[&str] = &["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let found = ["langfuse", "langfuse_otel"].iter().find_map(|name| find(subject, name));
    let Some((key, node)) = found else { return };
    let set_here = subject.block("environment_variables");
    let lacks = |name: &&&str| {
        subject.context.environment.lacks(name)
            && set_here.is_none_or(|block| block.get(name).is_none())
    };
    let missing: Vec<&str> = KEYS.iter().filter(lacks).copied().collect();
    if !missing.is_empty() {
        findings.at(
            node,
            format!("litellm_settings.{key}"),
            format!("{} not set", missing.join(" and ")),
        );
    }
}
