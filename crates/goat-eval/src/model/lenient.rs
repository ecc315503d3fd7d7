//! Reads JSON as models write it: with line breaks inside strings, commas too many, Python's quotes and words.
//!
//! Only what can mean one thing is understood. A string that does not end is never completed: what is missing of a
//! command or a file cannot be known.

use serde_json::{Map, Number, Value};

/// Deeper nesting is no argument of a tool, and must not exhaust the stack.
const DEEPEST: usize = 64;

/// What is understood besides JSON itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Liberty {
    /// A line break, tab or other control character inside a string.
    RawControl,
    /// A comma before a closing bracket.
    TrailingComma,
    /// `'…'` instead of `"…"`.
    SingleQuotes,
    /// A name without quotes.
    BareName,
    /// `True`, `False`, `None`.
    PythonWord,
    /// A backslash before a character that needs none, as in a regular expression: it stays.
    LooseEscape,
    /// The brackets at the end are missing.
    MissingBrackets,
}

impl Liberty {
    /// In a few words, for the transcript.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Liberty::RawControl => "unescaped line break or control character",
            Liberty::TrailingComma => "trailing comma",
            Liberty::SingleQuotes => "single quotes",
            Liberty::BareName => "name without quotes",
            Liberty::PythonWord => "True, False or None",
            Liberty::LooseEscape => "backslash before a plain character",
            Liberty::MissingBrackets => "missing brackets at the end",
        }
    }
}

/// A value, the liberties that were taken, and the position in the text after it.
pub(crate) fn read(text: &str) -> Option<(Value, Vec<Liberty>, usize)> {
    let mut reader = Reader { text, at: 0, liberties: Vec::new() };
    let value = reader.value(0)?;
    let mut liberties = reader.liberties;
    liberties.sort_unstable();
    liberties.dedup();
    Some((value, liberties, reader.at))
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    liberties: Vec<Liberty>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        self.skip_space();
        match self.peek()? {
            '{' => self.object(depth),
            '[' => self.array(depth),
            '"' => self.string('"').map(Value::String),
            '\'' => {
                self.liberties.push(Liberty::SingleQuotes);
                self.string('\'').map(Value::String)
            }
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.next();
        let mut map = Map::new();
        let mut comma = false;
        loop {
            if self.ends('}', comma)? {
                return Some(Value::Object(map));
            }
            let name = self.name()?;
            self.skip_space();
            if self.next()? != ':' {
                return None;
            }
            let value = self.value(depth + 1)?;
            // Two different values for one name: nobody knows which is meant.
            if map.get(&name).is_some_and(|known| *known != value) {
                return None;
            }
            map.insert(name, value);
            comma = self.separator('}')?;
        }
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        self.next();
        let mut items = Vec::new();
        let mut comma = false;
        loop {
            if self.ends(']', comma)? {
                return Some(Value::Array(items));
            }
            items.push(self.value(depth + 1)?);
            comma = self.separator(']')?;
        }
    }

    /// Whether the closing bracket comes; also where the text ends instead, but not after a comma.
    fn ends(&mut self, bracket: char, after_comma: bool) -> Option<bool> {
        self.skip_space();
        match self.peek() {
            None if after_comma => None,
            None => {
                self.liberties.push(Liberty::MissingBrackets);
                Some(true)
            }
            Some(c) if c == bracket => {
                if after_comma {
                    self.liberties.push(Liberty::TrailingComma);
                }
                self.next();
                Some(true)
            }
            Some(_) => Some(false),
        }
    }

    /// Whether a comma comes; a bracket or the end of the text is left for [`Self::ends`].
    fn separator(&mut self, bracket: char) -> Option<bool> {
        self.skip_space();
        match self.peek() {
            Some(',') => {
                self.next();
                Some(true)
            }
            Some(c) if c != bracket => None,
            _ => Some(false),
        }
    }

    fn name(&mut self) -> Option<String> {
        match self.peek()? {
            '"' => self.string('"'),
            '\'' => {
                self.liberties.push(Liberty::SingleQuotes);
                self.string('\'')
            }
            c if c.is_ascii_alphabetic() || c == '_' || c == '-' => {
                self.liberties.push(Liberty::BareName);
                Some(self.run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            }
            _ => None,
        }
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.next();
        }
        self.text[start..self.at].to_owned()
    }

    fn word(&mut self) -> Option<Value> {
        let word = self.run(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        match word.as_str() {
            "true" => Some(true.into()),
            "false" => Some(false.into()),
            "null" => Some(Value::Null),
            "True" | "False" | "None" => {
                self.liberties.push(Liberty::PythonWord);
                Some(match word.as_str() {
                    "True" => true.into(),
                    "False" => false.into(),
                    _ => Value::Null,
                })
            }
            _ => serde_json::from_str::<Number>(&word).ok().map(Value::Number),
        }
    }

    fn string(&mut self, quote: char) -> Option<String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next()? {
                c if c == quote => return Some(text),
                '\\' => self.escape(&mut text)?,
                c => {
                    if c < ' ' {
                        self.liberties.push(Liberty::RawControl);
                    }
                    text.push(c);
                }
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        match self.next()? {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            c @ ('"' | '\\' | '/') => text.push(c),
            'u' => text.push(self.unicode()?),
            '\'' => {
                self.liberties.push(Liberty::LooseEscape);
                text.push('\'');
            }
            c => {
                self.liberties.push(Liberty::LooseEscape);
                text.push('\\');
                text.push(c);
            }
        }
        Some(())
    }

    fn unicode(&mut self) -> Option<char> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high);
        }
        if (self.next()?, self.next()?) != ('\\', 'u') {
            return None;
        }
        let low = self.hex()?;
        (0xdc00..0xe000)
            .contains(&low)
            .then(|| 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            .and_then(char::from_u32)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_read_without_liberties() {
        let text = r#"{"a": [1, -2.5e3, true, null, "x\n\u00e4\ud83d\ude00"], "b": {}} rest"#;
        let (value, liberties, end) = read(text).unwrap();
        assert_eq!(value, json!({"a": [1, -2.5e3, true, null, "x\nä😀"], "b": {}}));
        assert_eq!((liberties, &text[end..]), (vec![], " rest"));
    }

    #[test]
    fn liberties_are_taken_and_named() {
        let (value, liberties, _) = read("{'a': \"x\ny\\d\", b: True, \"c\": [1, 2,],}").unwrap();
        assert_eq!(value, json!({"a": "x\ny\\d", "b": true, "c": [1, 2]}));
        let all = [
            Liberty::RawControl,
            Liberty::TrailingComma,
            Liberty::SingleQuotes,
            Liberty::BareName,
            Liberty::PythonWord,
            Liberty::LooseEscape,
        ];
        assert_eq!(liberties, all);
        assert_eq!(read("{\"a\": [1").unwrap().1, [Liberty::MissingBrackets]);
    }

    #[test]
    fn doubts_are_not_decided() {
        for text in [
            "{\"a\": \"ls",
            "{\"a\"",
            "{\"a\": ",
            "{\"a\": 1, \"a\": 2}",
            "{1: 2}",
            "{\"a\" 1}",
            "",
            "{\"a\": 1 2}",
            "{\"a\": ls}",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
        assert!(read(&"[".repeat(100_000)).is_none());
    }
}
