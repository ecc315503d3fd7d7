//! Puts a call's arguments into a skill's text.
//!
//! | in the text | becomes |
//! |---|---|
//! | `$ARGUMENTS` | everything that was given |
//! | `$ARGUMENTS[0]`, `$0` | the first word; quotes keep words together |
//! | `$name` | the word in the place of `name` among `arguments`; the last name takes all that is left |
//! | `${CLAUDE_SKILL_DIR}` | the skill's directory |
//!
//! A name or number for which nothing was given stays as it is. What was given and is used nowhere is added at the
//! end, so that nothing is lost.

/// `text` with `given` put in.
pub(super) fn substitute(text: &str, names: &[String], given: &str, directory: &str) -> String {
    let given = given.trim();
    let values = Values { given, words: words(given), names, directory };
    let (mut result, mut used) = (String::with_capacity(text.len()), false);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        match values.at(rest) {
            Some((length, value, is_argument)) => {
                result.push_str(&value);
                used |= is_argument;
                rest = &rest[length..];
            }
            None => {
                result.push('$');
                rest = &rest[1..];
            }
        }
    }
    result.push_str(rest);
    if !used && !given.is_empty() {
        result.push_str(&format!("\n\nARGUMENTS: {given}"));
    }
    result
}

struct Values<'v> {
    given: &'v str,
    /// Each word without its quotes, and where it begins in `given`.
    words: Vec<(usize, String)>,
    names: &'v [String],
    directory: &'v str,
}

impl Values<'_> {
    /// What stands at the start of `text`, which is a `$`: its length, what it becomes, whether it is an argument.
    fn at(&self, text: &str) -> Option<(usize, String, bool)> {
        if let Some(name) =
            ["${CLAUDE_SKILL_DIR}", "${SKILL_DIR}"].iter().find(|it| text.starts_with(**it))
        {
            return Some((name.len(), self.directory.to_owned(), false));
        }
        let after = &text[1..];
        let length =
            after.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(after.len());
        let word = &after[..length];
        if word == "ARGUMENTS" {
            return Some(self.indexed(after, length).unwrap_or((
                1 + length,
                self.given.to_owned(),
                true,
            )));
        }
        if let Ok(number) = word.parse::<usize>() {
            return Some((1 + length, self.words.get(number)?.1.clone(), true));
        }
        self.named(after)
    }

    /// `ARGUMENTS[n]`.
    fn indexed(&self, after: &str, length: usize) -> Option<(usize, String, bool)> {
        let inside = after[length..].strip_prefix('[')?;
        let (number, _) = inside.split_once(']')?;
        let (_, value) = self.words.get(number.parse::<usize>().ok()?)?;
        Some((1 + length + number.len() + 2, value.clone(), true))
    }

    /// The longest name that stands here as a whole word.
    fn named(&self, after: &str) -> Option<(usize, String, bool)> {
        let ends = |name: &String| {
            after
                .strip_prefix(name.as_str())
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        let found = self.names.iter().enumerate().filter(|(_, name)| ends(name));
        let (position, name) = found.max_by_key(|(_, name)| name.len())?;
        let (start, word) = self.words.get(position)?;
        let is_last = position + 1 == self.names.len() && self.words.len() > self.names.len();
        let value = if is_last { self.given[*start..].to_owned() } else { word.clone() };
        Some((1 + name.len(), value, true))
    }
}

/// Words as a shell would take them, without escapes.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut open, mut quote) = (false, None);
    for (at, c) in text.char_indices() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c.is_whitespace() => open = false,
            None | Some(_) => {
                if !open {
                    found.push((at, String::new()));
                    open = true;
                }
                if quote.is_none() && matches!(c, '"' | '\'') && text[at + 1..].contains(c) {
                    quote = Some(c);
                } else if let Some((_, word)) = found.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str, names: &[&str], given: &str) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        substitute(text, &names, given, "/s")
    }

    #[test]
    fn names_numbers_and_all_of_it() {
        assert_eq!(put("Read $file to $line.", &["file", "line"], "a.txt 7"), "Read a.txt to 7.");
        assert_eq!(put("$0 $1|$ARGUMENTS[1]|$ARGUMENTS", &[], "'x y' z"), "x y z|z|'x y' z");
        assert_eq!(put("$a: $b", &["a", "b"], "one two \"three\" four"), "one: two \"three\" four");
        assert_eq!(put("cd ${CLAUDE_SKILL_DIR}", &[], ""), "cd /s");
    }

    #[test]
    fn names_are_whole_words_and_what_is_missing_stays() {
        assert_eq!(put("$file-name $filename $file", &["file"], "x"), "x-name $filename x");
        assert_eq!(put("$a $b $7 $HOME $", &["a", "b"], "x"), "x $b $7 $HOME $");
        assert_eq!(put("[$ARGUMENTS]", &[], ""), "[]");
    }

    #[test]
    fn what_is_used_nowhere_is_added() {
        assert_eq!(put("Text.", &[], "it's late"), "Text.\n\nARGUMENTS: it's late");
        assert_eq!(put("$0", &[], "it's"), "it's");
    }
}
