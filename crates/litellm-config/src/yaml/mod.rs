//! YAML as the proxy reads it.
//!
//! LiteLLM reads with PyYAML, which speaks YAML 1.1: there `yes`, `1:30`, `2024-06-01` and `007` are no strings. A
//! [`Document`] keeps what a file says, in its order and with its comments; a scalar [resolves](Scalar::resolve) as
//! PyYAML resolves it; what [`Document::render`] writes means the same to PyYAML as it does here.

mod read;
mod scalar;
mod write;

use std::ops::Range;

pub use self::{
    read::SyntaxError,
    scalar::{Resolved, Scalar, Style},
};

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Place {
    /// The bytes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A YAML file: one node, and the comments after it.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Nothing where the file is empty.
    pub root: Option<Node>,
    /// Comments after the last node, each without its `#`.
    pub end: Vec<Comment>,
}

/// A comment on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The text after the `#`.
    pub text: String,
    /// Whether an empty line stands before it.
    pub after_gap: bool,
}

/// A value with everything that stands around it.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// The lines of comment above.
    pub above: Vec<Comment>,
    /// The comment at the end of its line.
    pub right: Option<String>,
    /// Whether an empty line stands before it, or before its comments.
    pub after_gap: bool,
    /// `&name`.
    pub anchor: Option<String>,
    /// `*name`: it is written so, and is otherwise a copy of what the name stands for.
    pub alias: Option<String>,
    /// `!!str` and the like, as it is written.
    pub tag: Option<String>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A text, a number, a switch.
    Scalar(Scalar),
    /// A list.
    List(List),
    /// Keys with values.
    Map(Map),
}

/// A list.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// In their order.
    pub items: Vec<Node>,
    /// Whether it is written as `[…]`.
    pub is_flow: bool,
}

/// Keys with values, in the order of the file, also those that come twice.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// In their order.
    pub entries: Vec<(Node, Node)>,
    /// Whether it is written as `{…}`.
    pub is_flow: bool,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It is not YAML, has more than one document, or PyYAML's safe loader refuses a tag of it.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        read::parse(text)
    }

    /// Writes it: the same order, comments above and at line ends, strings quoted where PyYAML would take them for
    /// something else.
    pub fn render(&self) -> String {
        write::document(self)
    }

    /// The root's keys; none where the file is empty or not a mapping.
    pub fn map(&self) -> Option<&Map> {
        self.root.as_ref().and_then(Node::as_map)
    }
}

impl Node {
    /// A node that no file has.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            place: Place::default(),
            above: Vec::new(),
            right: None,
            after_gap: false,
            anchor: None,
            alias: None,
            tag: None,
        }
    }

    /// A string.
    pub fn string(text: impl Into<String>) -> Self {
        Self::new(Kind::Scalar(Scalar::string(text)))
    }

    /// A switch.
    pub fn bool(value: bool) -> Self {
        Self::new(Kind::Scalar(Scalar::plain(value.to_string())))
    }

    /// A whole number.
    pub fn int(value: i64) -> Self {
        Self::new(Kind::Scalar(Scalar::plain(value.to_string())))
    }

    /// A number: written without an exponent, since PyYAML reads `1e-6` as a string.
    pub fn float(value: f64) -> Self {
        Self::new(Kind::Scalar(Scalar::float(value)))
    }

    /// Nothing.
    pub fn null() -> Self {
        Self::new(Kind::Scalar(Scalar::plain("null")))
    }

    /// A list, a line each.
    pub fn list(items: impl IntoIterator<Item = Node>) -> Self {
        Self::new(Kind::List(List { items: items.into_iter().collect(), is_flow: false }))
    }

    /// Strings on one line.
    pub fn strings<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Self {
        let items = items.into_iter().map(Node::string).collect();
        Self::new(Kind::List(List { items, is_flow: true }))
    }

    /// Keys with values, a line each.
    pub fn map(map: Map) -> Self {
        Self::new(Kind::Map(map))
    }

    /// The same with a line of comment above.
    pub fn with_comment(mut self, text: impl AsRef<str>) -> Self {
        let lines = text.as_ref().lines();
        self.above.extend(lines.map(|line| Comment { text: format!(" {line}"), after_gap: false }));
        self
    }

    /// The same after an empty line.
    pub fn with_gap(mut self) -> Self {
        self.after_gap = true;
        self
    }

    /// Its keys, if it has any.
    pub fn as_map(&self) -> Option<&Map> {
        if let Kind::Map(map) = &self.kind { Some(map) } else { None }
    }

    /// Its keys, if it has any.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        if let Kind::Map(map) = &mut self.kind { Some(map) } else { None }
    }

    /// Its items, if it is a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        if let Kind::List(list) = &self.kind { Some(&list.items) } else { None }
    }

    /// The scalar, if it is one.
    pub fn as_scalar(&self) -> Option<&Scalar> {
        if let Kind::Scalar(scalar) = &self.kind { Some(scalar) } else { None }
    }

    /// What PyYAML makes of it, if it is a scalar.
    pub fn resolve(&self) -> Option<Resolved> {
        self.as_scalar().map(|scalar| scalar.resolve_tagged(self.tag.as_deref()))
    }

    /// The text, if PyYAML reads a string.
    pub fn as_str(&self) -> Option<&str> {
        match self.resolve() {
            Some(Resolved::Str) => self.as_scalar().map(|scalar| scalar.text.as_str()),
            _ => None,
        }
    }

    /// The text of a scalar, whatever PyYAML reads.
    pub fn text(&self) -> Option<&str> {
        self.as_scalar().map(|scalar| scalar.text.as_str())
    }

    /// The switch, if PyYAML reads one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Some(Resolved::Bool(value)) = self.resolve() { Some(value) } else { None }
    }

    /// The number, if PyYAML reads one.
    pub fn as_number(&self) -> Option<f64> {
        match self.resolve() {
            #[expect(clippy::cast_precision_loss, reason = "a limit or a price is far below 2^53")]
            Some(Resolved::Int(value)) => Some(value as f64),
            Some(Resolved::Float(value)) => Some(value),
            _ => None,
        }
    }

    /// Whether there is nothing.
    pub fn is_null(&self) -> bool {
        matches!(self.resolve(), Some(Resolved::Null))
    }
}

impl Map {
    /// The value of a key as PyYAML finds it: the last of several, else what a merge key (`<<`) brings.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The key itself and its value.
    pub fn entry(&self, key: &str) -> Option<(&Node, &Node)> {
        let own = self.entries.iter().rev().find(|(name, _)| name.as_str() == Some(key));
        own.map(|(name, value)| (name, value)).or_else(|| self.merged(key))
    }

    fn merged(&self, key: &str) -> Option<(&Node, &Node)> {
        let merges =
            self.entries.iter().filter(|(name, _)| name.resolve() == Some(Resolved::Merge));
        let mut maps = merges.flat_map(|(_, value)| match &value.kind {
            Kind::List(list) => list.items.iter().filter_map(Node::as_map).collect(),
            _ => Vec::from_iter(value.as_map()),
        });
        maps.find_map(|map| map.entry(key))
    }

    /// The value of a key that is there itself, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let found = self.entries.iter_mut().rev().find(|(name, _)| name.as_str() == Some(key));
        found.map(|(_, value)| value)
    }

    /// Sets a key: in its place where it is there, else at the end.
    pub fn set(&mut self, key: &str, value: Node) {
        match self.get_mut(key) {
            Some(old) => {
                let right = old.right.take();
                *old = Node { right: value.right.clone().or(right), ..value };
            }
            None => self.entries.push((Node::string(key), value)),
        }
    }

    /// The same with another key at the end.
    pub fn with(mut self, key: &str, value: Node) -> Self {
        self.set(key, value);
        self
    }

    /// Every key that PyYAML sees as a string, the key itself and its value; also what a merge key brings.
    pub fn strings(&self) -> Vec<(&str, &Node, &Node)> {
        let mut found = Vec::new();
        for (name, value) in &self.entries {
            if name.resolve() == Some(Resolved::Merge) {
                let maps = value.as_list().unwrap_or(std::slice::from_ref(value));
                found.extend(maps.iter().filter_map(Node::as_map).flat_map(Map::strings));
            } else if let Some(text) = name.as_str() {
                found.push((text, name, value));
            }
        }
        found
    }
}
