//! Here-documents: texts of several lines inside a Dockerfile, as `RUN <<EOF` or `COPY <<EOF /file`.
//!
//! Source of the behaviour: the Dockerfile reference, "Here-Documents", and BuildKit's parser (both read
//! 2026-11-26): a word `[digits]<<[-]NAME` of `RUN`, `COPY` and `ADD` opens one, a word inside quotes
//! does not, and it ends with a line that is its name.

use super::{Problem, words};

/// A text that stands below its instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HereDocument {
    /// The word that ends it; where it becomes a file of a directory, the file's name.
    pub(crate) name: String,
    /// Its lines, each with its end.
    pub(crate) text: String,
    /// Whether variables in it are replaced: its name stood without quotes.
    pub(crate) expands: bool,
}

impl HereDocument {
    /// The text with its variables replaced. Quotes are like any other character.
    pub(crate) fn expanded(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, Problem> {
        if self.expands { words::expand_text(&self.text, lookup) } else { Ok(self.text.clone()) }
    }
}

/// The word that opens a here-document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) name: String,
    expands: bool,
    /// `<<-`: tabs at the start of its lines do not belong to the text.
    strips_tabs: bool,
}

impl Mark {
    /// Takes the lines of the text, and the one that ends it, from `rest`; `None` if there is no such.
    pub(super) fn read(&self, rest: &mut dyn Iterator<Item = &str>) -> Option<HereDocument> {
        let mut text = String::new();
        for raw in rest {
            let line = if self.strips_tabs { raw.trim_start_matches('\t') } else { raw };
            if line == self.name {
                let (name, expands) = (self.name.clone(), self.expands);
                return Some(HereDocument { name, text, expands });
            }
            text.push_str(line);
            text.push('\n');
        }
        None
    }
}

/// The here-documents that the text of an instruction opens.
pub(super) fn marks(instruction: &str) -> Vec<Mark> {
    let (keyword, rest) = instruction.split_once([' ', '\t']).unwrap_or((instruction, ""));
    if !["RUN", "COPY", "ADD"].iter().any(|known| keyword.eq_ignore_ascii_case(known)) {
        return Vec::new();
    }
    // A shell may close quotes that are open here: such a line has no words that we know.
    let Ok(words) = words::split(rest) else { return Vec::new() };
    words.iter().filter_map(|word| mark(word)).collect()
}

/// Reads one word as the opening of a here-document.
pub(super) fn mark(word: &str) -> Option<Mark> {
    let (descriptor, rest) = word.split_once("<<")?;
    if !descriptor.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let (strips_tabs, quoted) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if quoted.is_empty() || quoted.contains('<') {
        return None;
    }
    let name = words::expand_text(quoted, &|_| None).ok()?.replace(['\'', '"'], "");
    let expands = !quoted.contains(['\'', '"', '\\']);
    (!name.is_empty()).then_some(Mark { name, expands, strips_tabs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(word: &str) -> String {
        match mark(word) {
            Some(Mark { name, expands, strips_tabs }) => format!("{name} {expands} {strips_tabs}"),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn only_a_whole_word_opens_one() {
        let cases = [
            ("<<EOF", "EOF true false"),
            ("3<<EOF", "EOF true false"),
            ("<<-EOF", "EOF true true"),
            ("<<'E F'", "E F false false"),
            ("<<\"EOF\"", "EOF false false"),
            ("<<robots.txt", "robots.txt true false"),
            ("<<", "none"),
            ("<<<EOF", "none"),
            ("cat<<EOF", "none"),
            ("\"<<EOF\"", "none"),
            ("$((1<<2))", "none"),
        ];
        for (word, expected) in cases {
            assert_eq!(shown(word), expected, "{word}");
        }
    }

    #[test]
    fn other_instructions_open_none() {
        assert_eq!(marks("CMD cat <<EOF"), []);
        assert_eq!(marks("RUN echo it's <<EOF"), []);
        assert_eq!(marks("run cat <<A <<'B'").len(), 2);
    }

    #[test]
    fn the_text_ends_at_its_name_and_tabs_go_only_where_told() {
        let lines = ["\ta", " EOF", "\tEOF", "EOF", "after"];
        let mut rest = lines.into_iter();
        let plain = mark("<<EOF").unwrap().read(&mut rest).unwrap();
        assert_eq!(plain.text, "\ta\n EOF\n\tEOF\n");
        assert_eq!(rest.next(), Some("after"));
        let stripped = mark("<<-EOF").unwrap().read(&mut lines.into_iter()).unwrap();
        assert_eq!(stripped.text, "a\n EOF\n");
        assert!(mark("<<END").unwrap().read(&mut lines.into_iter()).is_none());
    }

    #[test]
    fn variables_are_replaced_and_quotes_stay() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        let mut document =
            HereDocument { name: "x".into(), text: "it's \"$A\" \\$A $B".into(), expands: true };
        assert_eq!(document.expanded(&lookup).as_deref(), Ok("it's \"1\" $A "));
        document.expands = false;
        assert_eq!(document.expanded(&lookup).as_deref(), Ok("it's \"$A\" \\$A $B"));
    }
}
