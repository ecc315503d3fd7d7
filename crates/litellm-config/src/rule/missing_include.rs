//! A file that is included is not there.
//!
//! The proxy ends with exit code 1, FileNotFoundError.

use crate::yaml::Node;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "missing-include",
    level: Level::Error,
    summary: "a file that is included is not there",
    happens: "the proxy ends with exit code 1, FileNotFoundError",
    mend: "mend the path: it is taken from the directory of this file",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(directory) = &subject.context.directory else { return };
    let files = subject.top("include").and_then(Node::as_list).unwrap_or_default();
    for (index, node) in files.iter().enumerate() {
        let Some(file) = node.as_str() else { continue };
        if !directory.join(file).exists() {
            findings.at(node, format!("include[{index}]"), format!("there is no file `{file}`"));
        }
    }
}
