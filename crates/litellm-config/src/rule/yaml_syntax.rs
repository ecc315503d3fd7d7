//! The file is not YAML that the proxy can read.
//!
//! The proxy ends at once, exit code 1, with the parser's line and column.

use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "yaml-syntax",
    level: Level::Error,
    summary: "the file is not YAML that the proxy can read",
    happens: "the proxy ends at once, exit code 1, with the parser's line and column",
    mend: "mend the line that is named",
    check,
};

/// Nothing: what is no YAML is told before any rule runs.
fn check(_: &Subject<'_>, _: &mut Findings) {}
