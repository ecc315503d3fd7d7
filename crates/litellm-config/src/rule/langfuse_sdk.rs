//! The callback langfuse with an SDK that this LiteLLM does not take.
//!
//! The newer proxy does not start (exit code 3, 'Could not build the langfuse callback'); the older one starts,
//! and traces are lost.

use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};
use crate::{rule::unknown_callback::find, version::wanted_sdk};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "langfuse-sdk",
    level: Level::Error,
    summary: "the callback langfuse with an SDK that this LiteLLM does not take",
    happens: "the newer proxy does not start (exit code 3, 'Could not build the langfuse callback'); the older one starts, and traces are lost",
    mend: "install both versions of one set: cargo xtask litellm models --sets",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some((key, node)) = find(subject, "langfuse") else { return };
    let context = subject.context;
    let wanted = wanted_sdk(context.litellm);
    let message = match context.langfuse_sdk {
        None => format!(
            "the package langfuse is not installed; LiteLLM {} wants {wanted}",
            context.litellm
        ),
        Some(sdk) if !context.litellm.takes_sdk(sdk) => {
            format!("langfuse {sdk} is installed; LiteLLM {} wants {wanted}", context.litellm)
        }
        Some(_) => return,
    };
    findings.at(node, format!("litellm_settings.{key}"), message);
}
