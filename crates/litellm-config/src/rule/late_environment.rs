//! Environment_variables brings a variable that model_list needs.
//!
//! The block is read after model_list: os.environ/NAME finds nothing there, and requests fail with 500 'Missing
//! credentials'.

use crate::rule::unset_variable::references;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "late-environment",
    level: Level::Error,
    summary: "environment_variables brings a variable that model_list needs",
    happens: "the block is read after model_list: os.environ/NAME finds nothing there, and requests fail with 500 'Missing credentials'",
    mend: "set the variable where the proxy starts",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(block) = subject.block("environment_variables") else { return };
    let Some(list) = subject.top("model_list") else { return };
    references(list, "model_list", &mut |node, path, name| {
        // Where it is set outside as well, it is found.
        let is_set = subject.context.environment.get(name).is_some();
        if block.get(name).is_some() && !is_set {
            findings.at(
                node,
                path,
                format!("{name} is set by environment_variables, too late for model_list"),
            );
        }
    });
}
