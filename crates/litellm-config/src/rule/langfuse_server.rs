//! The callback sends what this Langfuse does not take.
//!
//! The server answers 404 to every trace; the proxy says so in its log at most; requests work.

use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};
use crate::{
    rule::unknown_callback::find,
    version::{Callback, Combination, Sends, Version},
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "langfuse-server",
    level: Level::Error,
    summary: "the callback sends what this Langfuse does not take",
    happens: "the server answers 404 to every trace; the proxy says so in its log at most; requests work",
    mend: "take the version set for this server: cargo xtask litellm models --sets",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let context = subject.context;
    let Some(server) = context.langfuse_server else { return };
    for (name, callback) in
        [("langfuse", Callback::Langfuse), ("langfuse_otel", Callback::LangfuseOtel)]
    {
        let Some((key, node)) = find(subject, name) else { continue };
        // The SDK is another rule's.
        let langfuse_sdk = Some(if context.litellm.sends() == Sends::Otlp {
            Version::new(4, 18, 0)
        } else {
            Version::new(2, 60, 10)
        });
        let combination = Combination {
            litellm: context.litellm,
            langfuse_sdk,
            langfuse_server: server,
            callback,
        };
        if let Err(error) = combination.check() {
            findings.at(node, format!("litellm_settings.{key}"), error.to_string());
        }
    }
}
