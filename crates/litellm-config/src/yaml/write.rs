//! From a [`Document`] to text that PyYAML reads back.

use std::fmt::Write as _;

use super::{
    Comment, Document, Kind, List, Map, Node, Resolved, Scalar, Style,
    scalar::{is_word, resolve_plain},
};

/// Spaces a level.
const INDENT: usize = 2;

pub(super) fn document(document: &Document) -> String {
    let mut writer = Writer { out: String::new() };
    if let Some(root) = &document.root {
        writer.comments(&root.above, 0);
        match &root.kind {
            Kind::Scalar(_) => {
                let text = writer.inline(root, false);
                writer.out.push_str(&text);
                writer.end_of_line(root.right.as_deref());
            }
            _ if is_inline(root) => {
                let text = writer.inline(root, false);
                writer.out.push_str(&text);
                writer.end_of_line(root.right.as_deref());
            }
            _ => {
                writer.properties_line(root);
                writer.block(root, 0);
            }
        }
    }
    writer.comments(&document.end, 0);
    writer.out
}

struct Writer {
    out: String,
}

/// Whether the node stands on the line of its key.
fn is_inline(node: &Node) -> bool {
    node.alias.is_some()
        || match &node.kind {
            Kind::Scalar(_) => true,
            Kind::List(list) => list.items.is_empty() || list.is_flow && !has_comments(node),
            Kind::Map(map) => map.entries.is_empty() || map.is_flow && !has_comments(node),
        }
}

fn has_comments(node: &Node) -> bool {
    let noted = |node: &Node| !node.above.is_empty() || node.right.is_some() || has_comments(node);
    match &node.kind {
        Kind::Scalar(_) => false,
        Kind::List(list) => list.items.iter().any(noted),
        Kind::Map(map) => map.entries.iter().any(|(key, value)| noted(key) || noted(value)),
    }
}

impl Writer {
    fn indent(&mut self, level: usize) {
        self.out.extend(std::iter::repeat_n(' ', level * INDENT));
    }

    fn end_of_line(&mut self, right: Option<&str>) {
        if let Some(comment) = right {
            self.out.push_str(" #");
            self.out.push_str(comment);
        }
        self.out.push('\n');
    }

    fn comments(&mut self, comments: &[Comment], level: usize) {
        for comment in comments {
            self.gap(comment.after_gap);
            self.indent(level);
            self.out.push('#');
            self.out.push_str(&comment.text);
            self.out.push('\n');
        }
    }

    fn gap(&mut self, wanted: bool) {
        if wanted && !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    fn properties_line(&mut self, node: &Node) {
        let properties = properties(node);
        if !properties.is_empty() {
            self.out.push_str(properties.trim_end());
            self.out.push('\n');
        }
    }

    /// Everything below a key or a dash, from a new line on.
    fn block(&mut self, node: &Node, level: usize) {
        match &node.kind {
            Kind::Scalar(_) => {}
            Kind::List(list) => self.list(list, level),
            Kind::Map(map) => self.map(map, level, false),
        }
    }

    fn list(&mut self, list: &List, level: usize) {
        for item in &list.items {
            self.before(item, level);
            self.indent(level);
            self.out.push_str("- ");
            if is_inline(item) {
                self.value(item, level);
            } else if let (Kind::Map(map), true) = (&item.kind, properties(item).is_empty()) {
                self.map(map, level + 1, true);
            } else {
                self.properties_and_break(item);
                self.block(item, level + 1);
            }
        }
    }

    /// What stands above the line of a node.
    fn before(&mut self, node: &Node, level: usize) {
        self.gap(node.after_gap);
        self.comments(&node.above, level);
    }

    fn map(&mut self, map: &Map, level: usize, mut is_after_dash: bool) {
        for (key, value) in &map.entries {
            // Comments that were read between a dash and its first key stand below the dash here.
            if is_after_dash && !key.above.is_empty() {
                self.out.truncate(self.out.trim_end_matches(' ').len());
                self.out.push('\n');
                is_after_dash = false;
            }
            if !is_after_dash {
                self.before(key, level);
                self.indent(level);
            }
            is_after_dash = false;
            self.key(key);
            self.entry_value(value, key.right.as_deref(), level);
        }
    }

    fn key(&mut self, key: &Node) {
        let text = self.inline(key, true);
        // A long key or one that is a collection needs the explicit form.
        if key.as_scalar().is_none() && key.alias.is_none() || text.chars().count() > 100 {
            let _ok = write!(self.out, "? {text}\n: ");
            return;
        }
        self.out.push_str(&text);
        // `*name:` would be read as a longer name.
        self.out.push_str(if key.alias.is_some() { " :" } else { ":" });
    }

    fn entry_value(&mut self, value: &Node, key_right: Option<&str>, level: usize) {
        if is_inline(value) {
            // Comments of a value that stands on its key's line go above neither: they follow it.
            self.out.push(' ');
            let mut value = value.clone();
            value.right = value.right.or_else(|| key_right.map(str::to_owned));
            self.value(&value, level);
            return;
        }
        let properties = properties(value);
        if !properties.is_empty() {
            self.out.push(' ');
            self.out.push_str(properties.trim_end());
        }
        self.end_of_line(key_right.or(value.right.as_deref()));
        self.comments(&value.above, level + 1);
        self.block(value, level + 1);
    }

    fn properties_and_break(&mut self, node: &Node) {
        self.out.push_str(properties(node).trim_end());
        self.out.truncate(self.out.trim_end_matches(' ').len());
        self.end_of_line(node.right.as_deref());
    }

    fn value(&mut self, node: &Node, level: usize) {
        if let (Kind::Scalar(scalar), None) = (&node.kind, &node.alias)
            && let Some(lines) = literal(scalar)
        {
            self.out.push_str(&properties(node));
            self.out.push('|');
            self.end_of_line(node.right.as_deref());
            for line in lines {
                if !line.is_empty() {
                    self.indent(level + 1);
                }
                self.out.push_str(line);
                self.out.push('\n');
            }
            return;
        }
        let text = self.inline(node, false);
        self.out.push_str(&text);
        self.end_of_line(node.right.as_deref());
    }

    /// On one line.
    fn inline(&self, node: &Node, is_flow: bool) -> String {
        if let Some(name) = &node.alias {
            return format!("*{name}");
        }
        let properties = properties(node);
        let text = match &node.kind {
            Kind::Scalar(scalar) => scalar_text(scalar, is_flow || node.tag.is_some()),
            Kind::List(list) => {
                let items: Vec<_> = list.items.iter().map(|item| self.inline(item, true)).collect();
                format!("[{}]", items.join(", "))
            }
            Kind::Map(map) => {
                let entries = map.entries.iter().map(|(key, value)| {
                    let colon = if key.alias.is_some() { " :" } else { ":" };
                    format!("{}{colon} {}", self.inline(key, true), self.inline(value, true))
                });
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        };
        format!("{properties}{text}")
    }
}

fn properties(node: &Node) -> String {
    let anchor = node.anchor.iter().map(|name| format!("&{name} "));
    let tag = node.tag.iter().map(|tag| format!("{tag} "));
    anchor.chain(tag).collect()
}

/// The lines of a text that a literal block shows as they are.
fn literal(scalar: &Scalar) -> Option<Vec<&str>> {
    let body = scalar.text.strip_suffix('\n')?;
    let printable = |c: char| c == '\n' || c == '\t' || !needs_escape(c);
    let plain_start = !body.starts_with([' ', '\n', '\t']) && !body.is_empty();
    let clean = body.lines().all(|line| line.trim_end() == line);
    let fits = plain_start && clean && !body.ends_with('\n') && body.chars().all(printable);
    fits.then(|| body.split('\n').collect())
}

fn scalar_text(scalar: &Scalar, is_strict: bool) -> String {
    if scalar.style == Style::Plain && keeps_bare(&scalar.text, is_strict) {
        return scalar.text.clone();
    }
    if is_word(&scalar.text) { scalar.text.clone() } else { quoted(&scalar.text) }
}

/// Whether a bare scalar of a file may stay as it is: what is no string must, of strings those that are words
/// with spaces, and, outside of flow, a little more.
fn keeps_bare(text: &str, is_strict: bool) -> bool {
    match resolve_plain(text) {
        Resolved::Str => {
            let inner = |c: char| c.is_ascii_alphanumeric() || "_-./ +@*()<>=%$;".contains(c);
            !is_strict
                && text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.chars().all(inner)
                && !text.ends_with(' ')
        }
        // Empty is null in a block; in flow and with a tag it is safer spelt.
        Resolved::Null if text.is_empty() => !is_strict,
        _ => true,
    }
}

fn needs_escape(c: char) -> bool {
    let printable = matches!(c, '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    !printable || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let number = u32::from(c);
        let _ok = match c {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\t' => out.write_str("\\t"),
            '\r' => out.write_str("\\r"),
            c if !needs_escape(c) => out.write_char(c),
            _ if number <= 0xff => write!(out, "\\x{number:02x}"),
            _ if number <= 0xffff => write!(out, "\\u{number:04x}"),
            _ => write!(out, "\\U{number:08x}"),
        };
    }
    out.push('"');
    out
}
