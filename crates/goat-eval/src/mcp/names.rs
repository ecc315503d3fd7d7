//! What the model calls the tools of servers: `mcp__<server>__<tool>`.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Characters of a name at most: what OpenAI's API takes.
const LONGEST: usize = 64;
/// Hexadecimal digits that tell names apart which would be one.
const DIGITS: usize = 8;

/// The names given so far; a tool keeps its name for the whole run.
#[derive(Debug, Default)]
pub(super) struct Names {
    given: HashMap<(String, String), String>,
}

impl Names {
    /// The name for a tool of a server: only letters, digits, `_` and `-`, and no other tool has it.
    pub(super) fn name(&mut self, server: &str, tool: &str) -> String {
        let key = (server.to_owned(), tool.to_owned());
        if let Some(known) = self.given.get(&key) {
            return known.clone();
        }
        let plain = format!("mcp__{}__{}", clean(server), clean(tool));
        let is_taken = |name: &String| self.given.values().any(|known| known == name);
        let name = match plain.len() <= LONGEST && !is_taken(&plain) {
            true => plain,
            false => distinct(&plain, server, tool),
        };
        self.given.insert(key, name.clone());
        name
    }
}

/// A name cut short and made distinct by a hash of what it stands for.
fn distinct(plain: &str, server: &str, tool: &str) -> String {
    let digest = Sha256::digest(format!("{server}\0{tool}"));
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = plain.len().min(LONGEST - DIGITS - 1);
    format!("{}_{}", &plain[..kept], &digits[..DIGITS])
}

fn clean(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_short_and_distinct() {
        let mut names = Names::default();
        assert_eq!(names.name("files", "read_file"), "mcp__files__read_file");
        let dotted = names.name("my server", "a.b");
        assert_eq!(dotted, "mcp__my_server__a_b");
        let other = names.name("my server", "a/b");
        assert!(other.starts_with("mcp__my_server__a_b_") && other != dotted, "{other}");
        assert_eq!(names.name("my_server", "a.b").len(), dotted.len() + 9);
        // `a__b` of `x` and `b` of `x__a` meet.
        assert_ne!(names.name("x", "a__b"), names.name("x__a", "b"));
        let long = names.name("server", &"t".repeat(100));
        assert_eq!(long.len(), LONGEST);
        assert_ne!(long, names.name("server", &"t".repeat(101)));
        assert_eq!(names.name("my server", "a/b"), other, "a name lasts");
    }
}
