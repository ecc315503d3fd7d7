//! The module of custom_auth is not there.
//!
//! The proxy does not start: exit code 3, it cannot import the module.

use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "missing-custom-auth",
    level: Level::Error,
    summary: "the module of custom_auth is not there",
    happens: "the proxy does not start: exit code 3, it cannot import the module",
    mend: "put the file beside this one, or mend the name: module.function",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(node) = subject.setting("general_settings", "custom_auth") else { return };
    let Some(text) = node.as_str() else { return };
    let path = "general_settings.custom_auth";
    let Some((module, _function)) = text.rsplit_once('.') else {
        findings.at(
            node,
            path,
            format!("`{text}` names no function: it is written module.function"),
        );
        return;
    };
    let Some(directory) = &subject.context.directory else { return };
    let file = directory.join(module.replace('.', "/"));
    // A package that is installed, a bucket: nobody can tell from here.
    let is_local = !text.contains("://") && !text.starts_with("litellm.");
    if is_local
        && !file.with_extension("py").exists()
        && !file.join("__init__.py").exists()
        && !module.contains('.')
    {
        findings.at(node, path, format!("there is no `{module}.py` beside the file"));
    }
}
