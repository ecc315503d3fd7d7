//! Langfuse_otel with LANGFUSE_BASE_URL alone.
//!
//! The variable is ignored: traces, with prompts and answers, go to Langfuse's cloud in the US.

use crate::rule::unknown_callback::find;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "langfuse-otel-host",
    level: Level::Error,
    summary: "langfuse_otel with LANGFUSE_BASE_URL alone",
    happens: "the variable is ignored: traces, with prompts and answers, go to Langfuse's cloud in the US",
    mend: "set LANGFUSE_OTEL_HOST or LANGFUSE_HOST",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some((key, node)) = find(subject, "langfuse_otel") else { return };
    let set_here = subject.block("environment_variables");
    let has = |name: &str| {
        subject.context.environment.get(name).is_some()
            || set_here.is_some_and(|block| block.get(name).is_some())
    };
    let unknown = !subject.context.environment.is_complete() && !has("LANGFUSE_BASE_URL");
    if has("LANGFUSE_OTEL_HOST") || has("LANGFUSE_HOST") || unknown {
        return;
    }
    let message = if has("LANGFUSE_BASE_URL") {
        "LANGFUSE_BASE_URL is ignored: traces go to Langfuse's cloud in the US"
    } else {
        "neither LANGFUSE_OTEL_HOST nor LANGFUSE_HOST is set: traces go to Langfuse's cloud in the US"
    };
    findings.at(node, format!("litellm_settings.{key}"), message);
}
