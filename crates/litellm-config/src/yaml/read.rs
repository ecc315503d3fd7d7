//! From text to a [`Document`].

use std::{collections::HashMap, iter::Peekable, vec};

use granit_parser::{Event, Parser, Placement, ScalarStyle, Span, StructureStyle, Tag};

use super::{Comment, Document, Kind, List, Map, Node, Place, Scalar, Style};

/// How deep values may lie in each other; LiteLLM needs six.
const DEEPEST: usize = 64;

/// How many nodes a file may have once aliases are followed: a few lines can stand for billions.
const MOST_NODES: usize = 200_000;

/// The file is not YAML that the proxy can read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

type Events<'t> = Peekable<vec::IntoIter<(Event<'t>, Span)>>;

struct Reader<'t> {
    text: &'t str,
    events: Events<'t>,
    /// Comments that belong to the node that comes next.
    above: Vec<Comment>,
    anchors: HashMap<usize, Node>,
    names: HashMap<usize, String>,
    depth: usize,
    nodes: usize,
}

pub(super) fn parse(text: &str) -> Result<Document, SyntaxError> {
    check_characters(text)?;
    let options = granit_parser::options! {
        emit_anchor_events: true,
        block_scalar_eof_without_line_feed: true,
        bom_inside_document_as_content: true,
        max_buffered_comment_events: 100_000,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let events: Vec<_> = parser.collect::<Result<_, _>>().map_err(|error| SyntaxError {
        line: error.marker().line(),
        column: error.marker().col() + 1,
        what: error.info(),
    })?;
    let mut reader = Reader {
        text,
        events: events.into_iter().peekable(),
        above: Vec::new(),
        anchors: HashMap::new(),
        names: HashMap::new(),
        depth: 0,
        nodes: 0,
    };
    reader.document()
}

/// PyYAML refuses control characters, and three more characters are line ends to it alone: a comment or a string
/// would end there.
fn check_characters(text: &str) -> Result<(), SyntaxError> {
    let is_taken = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
            && !matches!(c, '\u{2028}' | '\u{2029}')
    };
    for (index, line) in text.split('\n').enumerate() {
        if let Some((column, c)) = line.chars().enumerate().find(|(_, c)| !is_taken(*c)) {
            let number = u32::from(c);
            let what = if matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}') {
                format!(
                    "the proxy takes U+{number:04X} for a line end; write it as an escape in quotes"
                )
            } else {
                format!(
                    "the proxy refuses the character U+{number:04X}; write it as an escape in quotes"
                )
            };
            return Err(SyntaxError { line: index + 1, column: column + 1, what });
        }
    }
    Ok(())
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Document, SyntaxError> {
        let mut document = Document::default();
        while let Some((event, span)) = self.events.next() {
            match event {
                Event::Comment(text, _) => self.comment(&text, span),
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(..) if document.root.is_some() => {
                    return Err(self.error(span, "a second document begins; the proxy reads one"));
                }
                Event::DocumentStart(..) => document.root = self.root()?,
                _ => return Err(self.error(span, "something stands outside of the document")),
            }
        }
        document.end = std::mem::take(&mut self.above);
        Ok(document)
    }

    /// The node of the document. A file of comments alone has none.
    fn root(&mut self) -> Result<Option<Node>, SyntaxError> {
        let (event, span) = self.next_event();
        let node = self.node(event, span)?;
        let nothing = node.place.start == node.place.end && node.anchor.is_none();
        if nothing && node.is_null() {
            self.above = node.above;
            return Ok(None);
        }
        Ok(Some(node))
    }

    /// The next event that is no comment; comments are kept for the node that follows.
    fn next_event(&mut self) -> (Event<'t>, Span) {
        loop {
            match self.events.next() {
                Some((Event::Comment(text, _), span)) => self.comment(&text, span),
                Some(next) => return next,
                None => return (Event::StreamEnd, Span::default()),
            }
        }
    }

    fn comment(&mut self, text: &str, span: Span) {
        let after_gap = self.has_gap_before(start(span));
        self.above.push(Comment { text: text.to_owned(), after_gap });
    }

    /// Whether the line above the one of this byte is empty.
    fn has_gap_before(&self, byte: usize) -> bool {
        let before = self.text[..byte].trim_end_matches([' ', '\t', '-', '?']);
        before.strip_suffix('\n').is_some_and(|rest| {
            let rest = rest.trim_end_matches([' ', '\t', '\r']);
            rest.is_empty() && !before.is_empty() && before.len() > 1 || rest.ends_with('\n')
        })
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node, SyntaxError> {
        let above = std::mem::take(&mut self.above);
        self.nodes += 1;
        if self.depth > DEEPEST || self.nodes > MOST_NODES {
            return Err(self
                .error(span, "the file is nested too deeply, or its aliases stand for too much"));
        }
        let mut node = match event {
            Event::Scalar(text, style, id, tag) => {
                let scalar = Scalar { text: text.into_owned(), style: style_of(style) };
                let name = self.anchor_name(id);
                let node =
                    self.finish(Node::new(Kind::Scalar(scalar)), span, tag.as_deref(), name)?;
                self.keep(id, node)
            }
            Event::SequenceStart(style, id, tag) => {
                let name = self.anchor_name(id);
                let is_flow = style == StructureStyle::Flow;
                let (items, end) = self.items()?;
                let node = Node::new(Kind::List(List { items, is_flow }));
                let node = self.finish(node, joined(span, end), tag.as_deref(), name)?;
                self.keep(id, node)
            }
            Event::MappingStart(style, id, tag) => {
                let name = self.anchor_name(id);
                let is_flow = style == StructureStyle::Flow;
                let (entries, end) = self.entries()?;
                let node = Node::new(Kind::Map(Map { entries, is_flow }));
                let node = self.finish(node, joined(span, end), tag.as_deref(), name)?;
                self.keep(id, node)
            }
            Event::Alias(id) => self.alias(id, span)?,
            other => return Err(self.error(span, &format!("{other:?} where a value belongs"))),
        };
        node.after_gap = above.is_empty() && self.has_gap_before(node.place.start);
        node.above = above;
        self.right_comment(&mut node);
        Ok(node)
    }

    fn anchor_name(&mut self, id: usize) -> Option<String> {
        if id == 0 {
            return None;
        }
        if let Some((Event::Anchor(..), _)) = self.events.peek()
            && let Some((Event::Anchor(_, name), _)) = self.events.next()
        {
            self.names.insert(id, name.into_owned());
        }
        self.names.get(&id).cloned()
    }

    fn keep(&mut self, id: usize, node: Node) -> Node {
        if id != 0 {
            self.anchors.insert(id, node.clone());
        }
        node
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, SyntaxError> {
        let missing = || self.error(span, "the alias stands inside of what it stands for");
        let target = self.anchors.get(&id).ok_or_else(missing)?;
        let mut node = target.clone();
        self.nodes += count(&node);
        node.alias = node.anchor.take();
        node.place = place(span);
        (node.above, node.right) = (Vec::new(), None);
        Ok(node)
    }

    fn finish(
        &self,
        mut node: Node,
        span: Span,
        tag: Option<&Tag>,
        anchor: Option<String>,
    ) -> Result<Node, SyntaxError> {
        node.place = place(span);
        node.anchor = anchor;
        node.tag = tag.map(Tag::original);
        let known = [
            "null",
            "bool",
            "int",
            "float",
            "str",
            "seq",
            "map",
            "timestamp",
            "binary",
            "set",
            "omap",
        ];
        if let Some(tag) = tag
            && tag.original() != "!"
            && !tag.core_suffix().is_some_and(|suffix| known.contains(&suffix))
        {
            return Err(
                self.error(span, &format!("the proxy does not know the tag `{}`", tag.original()))
            );
        }
        if let Some(tag) = &mut node.tag
            && let Some(suffix) = tag.strip_prefix("tag:yaml.org,2002:")
        {
            *tag = format!("!!{suffix}");
        }
        Ok(node)
    }

    fn items(&mut self) -> Result<(Vec<Node>, Span), SyntaxError> {
        self.depth += 1;
        let mut items = Vec::new();
        let end = loop {
            match self.next_event() {
                (Event::SequenceEnd, span) => break span,
                (event, span) => items.push(self.node(event, span)?),
            }
        };
        self.depth -= 1;
        Ok((items, end))
    }

    fn entries(&mut self) -> Result<(Vec<(Node, Node)>, Span), SyntaxError> {
        self.depth += 1;
        let mut entries = Vec::new();
        let end = loop {
            match self.next_event() {
                (Event::MappingEnd, span) => break span,
                (event, span) => {
                    let mut key = self.node(event, span)?;
                    let (event, span) = self.next_event_of_value(&mut key);
                    let value = self.node(event, span)?;
                    entries.push((key, value));
                }
            }
        };
        self.depth -= 1;
        Ok((entries, end))
    }

    /// A comment between a key and its value stands at the key's line end.
    fn next_event_of_value(&mut self, key: &mut Node) -> (Event<'t>, Span) {
        if let Some(right) = self.take_right() {
            key.right = Some(right);
        }
        self.next_event()
    }

    fn right_comment(&mut self, node: &mut Node) {
        // Inside of a collection it belongs to what stands on that line.
        let is_one_line = match &node.kind {
            Kind::Scalar(_) => true,
            Kind::List(list) => list.is_flow,
            Kind::Map(map) => map.is_flow,
        };
        if node.right.is_none() && (is_one_line || node.alias.is_some()) {
            node.right = self.take_right();
        }
    }

    fn take_right(&mut self) -> Option<String> {
        match self.events.peek() {
            Some((Event::Comment(text, Placement::Right), _)) => {
                let text = text.clone().into_owned();
                self.events.next();
                Some(text)
            }
            _ => None,
        }
    }

    fn error(&self, span: Span, what: &str) -> SyntaxError {
        let place = place(span);
        SyntaxError { line: place.line, column: place.column, what: what.to_owned() }
    }
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
    }
}

fn count(node: &Node) -> usize {
    let below: usize = match &node.kind {
        Kind::Scalar(_) => 0,
        Kind::List(list) => list.items.iter().map(count).sum(),
        Kind::Map(map) => map.entries.iter().map(|(key, value)| count(key) + count(value)).sum(),
    };
    1 + below
}

fn start(span: Span) -> usize {
    span.byte_range().map_or(0, |range| range.start)
}

fn place(span: Span) -> Place {
    let range = span.byte_range().unwrap_or_default();
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
        start: range.start,
        end: range.end,
    }
}

fn joined(from: Span, to: Span) -> Span {
    Span::new(from.start, to.end)
}
