//! Os.environ/NAME with a variable that is not set.
//!
//! The proxy starts and says nothing; requests fail with 500 'Missing credentials' after three attempts
//! (master_key: the newer proxy does not start, exit code 3).

use crate::{
    lint::subject::ENV,
    yaml::{Document, Kind, Node},
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unset-variable",
    level: Level::Error,
    summary: "os.environ/NAME with a variable that is not set",
    happens: "the proxy starts and says nothing; requests fail with 500 'Missing credentials' after three attempts (master_key: the newer proxy does not start, exit code 3)",
    mend: "set the variable where the proxy runs, or leave the entry out",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(root) = &subject.document.root else { return };
    let set_here = subject.block("environment_variables");
    references(root, "", &mut |node, path, name| {
        // master-key and late-environment say more of theirs.
        let told_elsewhere = path == "general_settings.master_key"
            || set_here.is_some_and(|block| block.get(name).is_some());
        if subject.context.environment.lacks(name) && !told_elsewhere {
            findings.at(node, path, format!("the variable {name} is not set"));
        }
    });
}

/// The names of all variables that the file takes, each once, in its order.
pub(crate) fn named(document: &Document) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if let Some(root) = &document.root {
        references(root, "", &mut |_, _, name| {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        });
    }
    names
}

/// Calls back for each `os.environ/NAME`, with where it is.
pub(crate) fn references<'n>(
    node: &'n Node,
    path: &str,
    found: &mut impl FnMut(&'n Node, &str, &'n str),
) {
    match &node.kind {
        Kind::Scalar(scalar) => {
            if let Some(name) = scalar.text.strip_prefix(ENV) {
                found(node, path, name);
            }
        }
        Kind::List(list) => {
            for (index, item) in list.items.iter().enumerate() {
                references(item, &format!("{path}[{index}]"), found);
            }
        }
        Kind::Map(map) => {
            for (key, value) in &map.entries {
                let key = key.text().unwrap_or("?");
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                references(value, &path, found);
            }
        }
    }
}
