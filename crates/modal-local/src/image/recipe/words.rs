//! Words: quotes, escapes and variables, by the rules of a Dockerfile (not quite those of a shell).

use super::Problem;

/// Splits at blanks outside quotes; the words keep their quotes.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Problem> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, ' ' | '\t') => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if quote.is_some() {
        return Err(Problem::OpenQuote);
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Takes quotes and escapes away and replaces `$NAME`, `${NAME}`, `${NAME:-other}` and their kin.
///
/// A variable that `lookup` does not know is empty. Nothing is replaced inside single quotes.
pub(crate) fn expand(
    word: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Problem> {
    let mut expander = Expander { rest: word, lookup, out: String::new() };
    expander.run()?;
    Ok(expander.out)
}

/// Replaces variables in a text in which quotes mean nothing; a backslash takes its meaning from the
/// character after it.
pub(crate) fn expand_text(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Problem> {
    let mut expander = Expander { rest: text, lookup, out: String::new() };
    while let Some(c) = expander.next() {
        match c {
            '\\' => expander.escaped(false),
            '$' => expander.variable()?,
            _ => expander.out.push(c),
        }
    }
    Ok(expander.out)
}

struct Expander<'a> {
    rest: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    out: String,
}

impl Expander<'_> {
    fn run(&mut self) -> Result<(), Problem> {
        let mut in_double = false;
        while let Some(c) = self.next() {
            match c {
                '"' => in_double = !in_double,
                '\'' if !in_double => self.single_quoted()?,
                '\\' => self.escaped(in_double),
                '$' => self.variable()?,
                _ => self.out.push(c),
            }
        }
        if in_double { Err(Problem::OpenQuote) } else { Ok(()) }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn single_quoted(&mut self) -> Result<(), Problem> {
        let (text, rest) = self.rest.split_once('\'').ok_or(Problem::OpenQuote)?;
        self.out.push_str(text);
        self.rest = rest;
        Ok(())
    }

    /// In double quotes a backslash means something only before `"`, `$` and itself.
    fn escaped(&mut self, in_double: bool) {
        match self.next() {
            Some(c) => {
                if in_double && !matches!(c, '"' | '$' | '\\') {
                    self.out.push('\\');
                }
                self.out.push(c);
            }
            None => self.out.push('\\'),
        }
    }

    fn variable(&mut self) -> Result<(), Problem> {
        if let Some(rest) = self.rest.strip_prefix('{') {
            let end = closing_brace(rest).ok_or_else(|| Problem::Variable(rest.to_owned()))?;
            let value = self.braced(&rest[..end])?;
            self.out.push_str(&value);
            self.rest = &rest[end + 1..];
            return Ok(());
        }
        let name = name_prefix(self.rest);
        if name.is_empty() {
            self.out.push('$');
        } else {
            self.out.push_str(&(self.lookup)(name).unwrap_or_default());
            self.rest = &self.rest[name.len()..];
        }
        Ok(())
    }

    /// What stands between the braces: a name, or a name, an operator and a word.
    fn braced(&self, inner: &str) -> Result<String, Problem> {
        let name = name_prefix(inner);
        let refuse = || Problem::Variable(inner.to_owned());
        if name.is_empty() {
            return Err(refuse());
        }
        let value = (self.lookup)(name);
        let operator = &inner[name.len()..];
        let (value, operator) = match operator.strip_prefix(':') {
            Some(rest) => (value.filter(|value| !value.is_empty()), rest),
            None => (value, operator),
        };
        let word = || expand(operator.get(1..).unwrap_or_default(), self.lookup);
        match (operator.chars().next(), value) {
            (None, value) if !inner.ends_with(':') => Ok(value.unwrap_or_default()),
            (Some('-'), Some(value)) | (Some('?'), Some(value)) => Ok(value),
            (Some('-'), None) => word(),
            (Some('+'), Some(_)) => word(),
            (Some('+'), None) => Ok(String::new()),
            _ => Err(refuse()),
        }
    }
}

/// The letters, digits and underscores at the start that make a variable's name.
fn name_prefix(text: &str) -> &str {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

/// The index of the brace that closes the one just passed.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(index),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_where_docker_replaces_them() {
        let cases = [
            ("$A/x", "1/x"),
            ("${A}b", "1b"),
            ("'$A'", "$A"),
            ("\"$A\"", "1"),
            ("\\$A", "$A"),
            ("$NONE-", "-"),
            ("${NONE:-two ${A}}", "two 1"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${A:+set}${NONE:+set}", "set"),
            ("100$", "100$"),
            ("'a \"b\" $c'", "a \"b\" $c"),
            ("\"a\\nb\"", "a\\nb"),
            ("'it'\"'\"'s'", "it's"),
        ];
        for (word, expected) in cases {
            assert_eq!(expand(word, &lookup).as_deref(), Ok(expected), "{word}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for word in ["${", "${}", "${A", "\"a", "'a", "${A%x}", "${NONE:?}", "${A:}"] {
            assert!(expand(word, &lookup).is_err(), "{word}");
        }
    }

    #[test]
    fn blanks_inside_quotes_do_not_split() {
        assert_eq!(
            split("a 'b c'  d\\ e \"f g\"").as_deref(),
            Ok(&["a".into(), "'b c'".into(), "d\\ e".into(), "\"f g\"".into()][..])
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = split(&text);
            let _ = expand(&text, &lookup);
        }

        #[test]
        fn single_quotes_keep_a_text_as_it_is(text in "[^']{0,40}") {
            prop_assert_eq!(expand(&format!("'{text}'"), &lookup), Ok(text));
        }
    }
}
