//! What `COPY` and `ADD` take from the context, decided from a list of names.
//!
//! Rules of the Dockerfile reference (read 2026-11-24): a directory stands for what is in it; a file
//! goes to the target itself, or into it if the target ends in `/`, if there are several sources, or
//! (known only inside) if it is a directory.

use serde::{Deserialize, Serialize};

use super::digest::Hasher;

/// A file that the context offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextFile {
    /// Its path in the context, without leading `/`.
    pub(crate) path: String,
    /// What it contains.
    pub(crate) sha256_hex: String,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Where its contents are found inside the container of the step.
    pub(crate) inside: String,
}

/// One file or directory to make: the work order of [`super::copy`], as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Item {
    /// A directory and its parents.
    Directory { to: String },
    /// A file.
    File {
        from: String,
        to: String,
        mode: u32,
        /// If `to` is a directory, the file goes into it under this name.
        name: String,
    },
    /// Whatever lies at a path below a root, links resolved inside that root.
    Tree { root: String, path: String, to: String, into_directory: bool },
}

/// What a step copies, and the hash of all that its result depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) items: Vec<Item>,
    pub(crate) hash: [u8; 32],
}

/// A source matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{source_path}` matches no file of the build context ({offered})")]
pub(crate) struct NoMatch {
    source_path: String,
    offered: String,
}

/// Plans copying `sources` of the context, and `documents`, to `target`, an absolute path that ends in
/// `/` if it was written so.
pub(crate) fn plan(
    context: &[ContextFile],
    sources: &[String],
    documents: &[ContextFile],
    target: &str,
) -> Result<Plan, NoMatch> {
    let mut items = Vec::new();
    let mut hasher = Hasher::new("copy");
    let several_named = sources.len() + documents.len() > 1;
    hasher.part(target);
    for document in documents {
        let root = document.path.clone();
        hasher.part(&root).part(&document.sha256_hex);
        let found = Found { root, is_directory: false, files: vec![document] };
        place(&found, target, several_named, &mut items);
    }
    for source in sources {
        let pattern = normalize(source);
        let found = matches(context, &pattern);
        if found.is_empty() {
            return Err(NoMatch { source_path: source.clone(), offered: offered(context) });
        }
        let several = several_named || found.len() > 1;
        for found in found {
            hasher.part(&found.root);
            place(&found, target, several, &mut items);
            for file in &found.files {
                let relative = file.path[found.root.len()..].trim_start_matches('/');
                hasher.part(relative).part(&file.sha256_hex).part(file.mode.to_le_bytes());
            }
        }
    }
    Ok(Plan { items, hash: hasher.finish() })
}

/// A path of the context that a pattern matches, and the files at or below it.
struct Found<'a> {
    root: String,
    is_directory: bool,
    files: Vec<&'a ContextFile>,
}

fn place(found: &Found<'_>, target: &str, several: bool, items: &mut Vec<Item>) {
    let base = target.trim_end_matches('/');
    if found.is_directory {
        items.push(Item::Directory { to: if base.is_empty() { "/".into() } else { base.into() } });
    }
    for file in &found.files {
        let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
        let to = if found.is_directory {
            format!("{base}/{}", file.path[found.root.len()..].trim_start_matches('/'))
        } else if several || target.ends_with('/') {
            format!("{base}/{name}")
        } else {
            base.to_owned()
        };
        items.push(Item::File { from: file.inside.clone(), to, mode: file.mode, name });
    }
}

fn matches<'a>(context: &'a [ContextFile], pattern: &str) -> Vec<Found<'a>> {
    if pattern.is_empty() {
        let files: Vec<_> = context.iter().collect();
        return vec![Found { root: String::new(), is_directory: true, files }];
    }
    let depth = pattern.split('/').count();
    let mut found: Vec<Found<'a>> = Vec::new();
    for file in context {
        let parts: Vec<&str> = file.path.split('/').collect();
        let Some(head) = parts.get(..depth) else { continue };
        if !pattern.split('/').zip(head).all(|(pattern, part)| matches_part(pattern, part)) {
            continue;
        }
        let root = head.join("/");
        match found.iter_mut().find(|known| known.root == root) {
            Some(known) => known.files.push(file),
            None => {
                let is_directory = parts.len() > depth;
                found.push(Found { root, is_directory, files: vec![file] });
            }
        }
    }
    found
}

/// `*`, `?` and `[…]` in one part of a path.
fn matches_part(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    matches_chars(&pattern, &name)
}

fn matches_chars(pattern: &[char], name: &[char]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some('*'), _) => (0..=name.len()).any(|skip| matches_chars(&pattern[1..], &name[skip..])),
        (Some('?'), Some(_)) => matches_chars(&pattern[1..], &name[1..]),
        (Some('['), Some(c)) => match set(&pattern[1..], *c) {
            Some((true, length)) => matches_chars(&pattern[1 + length..], &name[1..]),
            Some((false, _)) => false,
            None => *c == '[' && matches_chars(&pattern[1..], &name[1..]),
        },
        (Some('\\'), Some(c)) if pattern.len() > 1 => {
            pattern[1] == *c && matches_chars(&pattern[2..], &name[1..])
        }
        (Some(p), Some(c)) => p == c && matches_chars(&pattern[1..], &name[1..]),
        _ => false,
    }
}

/// Whether `c` is in the set that begins here, and how long its text is with the closing bracket.
fn set(text: &[char], c: char) -> Option<(bool, usize)> {
    let end = text.iter().skip(1).position(|c| *c == ']')? + 1;
    let (negated, body) = match text[0] {
        '^' => (true, &text[1..end]),
        _ => (false, &text[..end]),
    };
    let mut found = false;
    let mut index = 0;
    while index < body.len() {
        match body.get(index..index + 3) {
            Some(&[low, '-', high]) => {
                found |= (low..=high).contains(&c);
                index += 3;
            }
            _ => {
                found |= body[index] == c;
                index += 1;
            }
        }
    }
    Some((found != negated, end + 1))
}

/// The path without `.`, `..` and needless slashes; nothing above the context can be named.
pub(crate) fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn offered(context: &[ContextFile]) -> String {
    const SHOWN: usize = 5;
    if context.is_empty() {
        return "it is empty".to_owned();
    }
    let names: Vec<_> = context.iter().take(SHOWN).map(|file| file.path.as_str()).collect();
    let more = context.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("it has {}{rest}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context(paths: &[&str]) -> Vec<ContextFile> {
        let file = |path: &&str| ContextFile {
            path: (*path).to_owned(),
            sha256_hex: format!("hash of {path}"),
            mode: 0o644,
            inside: format!("/context/{path}"),
        };
        paths.iter().map(file).collect()
    }

    fn targets(sources: &[&str], target: &str) -> Vec<String> {
        let context = context(&["a.txt", "b.txt", "dir/c", "dir/sub/d", "opt/hello"]);
        let sources: Vec<String> = sources.iter().map(|s| (*s).to_owned()).collect();
        match plan(&context, &sources, &[], target) {
            Ok(plan) => plan.items.iter().map(shown).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    fn shown(item: &Item) -> String {
        match item {
            Item::Directory { to } => format!("{to}/"),
            Item::File { from, to, .. } => format!("{from} -> {to}"),
            Item::Tree { .. } => unreachable!("a plan of the context has files only"),
        }
    }

    #[test]
    fn the_rules_of_copy() {
        let cases: &[(&[&str], &str)] = &[
            (&["."], "/"),
            (&["a.txt"], "/x"),
            (&["a.txt"], "/x/"),
            (&["/a.txt"], "/x"),
            (&["*.txt"], "/x"),
            (&["a.txt", "b.txt"], "/x"),
            (&["dir"], "/x"),
            (&["dir/."], "/x/"),
            (&["d?r/[a-c]"], "/x"),
            (&["../../a.txt"], "/x"),
            (&["missing"], "/x"),
        ];
        let lines: String = cases
            .iter()
            .map(|(sources, to)| {
                format!("{sources:?} {to}\n    {}\n", targets(sources, to).join("\n    "))
            })
            .collect();
        insta::assert_snapshot!(lines);
    }

    #[test]
    fn contents_and_modes_are_part_of_the_hash_and_other_files_are_not() {
        let hash = |context: &[ContextFile]| plan(context, &["a".into()], &[], "/x").unwrap().hash;
        let one = context(&["a", "b"]);
        let mut other = one.clone();
        other[1].sha256_hex = "changed".to_owned();
        assert_eq!(hash(&one), hash(&other));
        other[0].mode = 0o755;
        assert_ne!(hash(&one), hash(&other));
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern in ".{0,20}", name in ".{0,20}") {
            matches_part(&pattern, &name);
        }

        #[test]
        fn a_name_without_special_characters_matches_itself_alone(name in "[a-z.]{1,9}") {
            prop_assert!(matches_part(&name, &name));
            let longer = format!("{}x", name);
            prop_assert!(!matches_part(&name, &longer));
        }
    }
}
