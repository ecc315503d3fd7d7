//! The same key stands twice in one block.
//!
//! The proxy starts and says nothing; the last one wins, so a second, empty model_list deletes all models.

use crate::yaml::{Kind, Map, Node};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "duplicate-key",
    level: Level::Error,
    summary: "the same key stands twice in one block",
    happens: "the proxy starts and says nothing; the last one wins, so a second, empty model_list deletes all models",
    mend: "keep one of them",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    if let Some(root) = &subject.document.root {
        node(root, "", findings);
    }
}

fn node(node: &Node, path: &str, findings: &mut Findings) {
    match &node.kind {
        Kind::Scalar(_) => {}
        // Told where it is written, not where it is named again.
        _ if node.alias.is_some() => {}
        Kind::List(list) => {
            for (index, item) in list.items.iter().enumerate() {
                self::node(item, &format!("{path}[{index}]"), findings);
            }
        }
        Kind::Map(map) => entries(map, path, findings),
    }
}

fn entries(map: &Map, path: &str, findings: &mut Findings) {
    for (index, (key, value)) in map.entries.iter().enumerate() {
        let Some(text) = key.text() else { continue };
        let path = if path.is_empty() { text.to_owned() } else { format!("{path}.{text}") };
        let first = map.entries[..index].iter().find(|(other, _)| other.text() == Some(text));
        if let (Some((first, _)), true) = (first, text != "<<") {
            let line = first.place.line;
            findings.at(
                key,
                path.clone(),
                format!("`{text}` stands in line {line} already; this one wins"),
            );
        }
        node(value, &path, findings);
    }
}
