//! What a search is asked for.

use std::path::Path;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use ignore::{
    overrides::{Override, OverrideBuilder},
    types::{Types, TypesBuilder},
};

use crate::tool::{Arguments, ToolError};

/// What is shown of a match.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Content,
    Files,
    Count,
}

/// A search.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) pattern: String,
    pub(super) path: String,
    pub(super) glob: Option<String>,
    pub(super) file_type: Option<String>,
    pub(super) mode: Mode,
    pub(super) ignore_case: bool,
    pub(super) line_numbers: bool,
    pub(super) before: usize,
    pub(super) after: usize,
    pub(super) head_limit: Option<usize>,
    pub(super) multiline: bool,
}

impl Options {
    pub(super) fn read(arguments: &Arguments) -> Result<Self, ToolError> {
        let given =
            |name| Ok::<_, ToolError>(arguments.text(name)?.filter(|text| !text.is_empty()));
        let numbers = |names: [&'static str; 2]| lines(arguments, names);
        let around = numbers(["context_lines", "-C"])?;
        let mode = mode(given("output_mode")?.as_deref())?;
        // Context around a path or a number means nothing.
        let context = |own: Option<usize>| {
            if mode == Mode::Content { own.or(around).unwrap_or(0) } else { 0 }
        };
        let line_numbers =
            arguments.optional_flag("show_line_numbers")?.or(arguments.optional_flag("-n")?);
        Ok(Options {
            pattern: arguments.required_text("pattern")?,
            path: given("path")?.unwrap_or_else(|| ".".into()),
            glob: given("glob")?,
            file_type: given("type")?,
            mode,
            ignore_case: arguments.flag("case_insensitive")? || arguments.flag("-i")?,
            line_numbers: line_numbers.unwrap_or(true),
            before: context(numbers(["before_context", "-B"])?),
            after: context(numbers(["after_context", "-A"])?),
            head_limit: numbers(["head_limit", "head_limit"])?.filter(|limit| *limit > 0),
            multiline: arguments.flag("multiline")?,
        })
    }

    pub(super) fn matcher(&self) -> Result<RegexMatcher, ToolError> {
        let mut builder = RegexMatcherBuilder::new();
        builder
            .case_insensitive(self.ignore_case)
            .multi_line(true)
            .dot_matches_new_line(self.multiline);
        if !self.multiline {
            builder.line_terminator(Some(b'\n'));
        }
        builder.build(&self.pattern).map_err(|error| {
            let text = error.to_string();
            let hint =
                if text.contains("\\n") { "; set `multiline` to match over lines" } else { "" };
            ToolError::Failed(format!("bad pattern: {text}{hint}"))
        })
    }

    /// The files that `glob` lets through; several globs may be separated by spaces or commas outside braces.
    pub(super) fn chosen_files(&self, root: &Path) -> Result<Override, ToolError> {
        let mut builder = OverrideBuilder::new(root);
        for glob in self.glob.as_deref().map(split_globs).unwrap_or_default() {
            builder.add(&glob).map_err(bad_glob)?;
        }
        builder.build().map_err(bad_glob)
    }

    pub(super) fn types(&self) -> Result<Types, ToolError> {
        let mut builder = TypesBuilder::new();
        let Some(name) = &self.file_type else { return Ok(Types::empty()) };
        builder.add_defaults().select(name);
        let unknown =
            |_| ToolError::Failed(format!("unknown file type `{name}`; use `glob` instead"));
        builder.build().map_err(unknown)
    }
}

fn bad_glob(error: ignore::Error) -> ToolError {
    ToolError::Failed(format!("bad glob: {error}"))
}

fn mode(text: Option<&str>) -> Result<Mode, ToolError> {
    match text {
        None | Some("files_with_matches") => Ok(Mode::Files),
        Some("content") => Ok(Mode::Content),
        Some("count") => Ok(Mode::Count),
        Some(_) => Err(ToolError::WrongType {
            name: "output_mode",
            expected: "content, files_with_matches or count",
        }),
    }
}

/// A number of lines under either of its names.
fn lines(arguments: &Arguments, names: [&'static str; 2]) -> Result<Option<usize>, ToolError> {
    let number = arguments.number(names[0])?.or(arguments.number(names[1])?);
    Ok(number.map(|number| usize::try_from(number).unwrap_or(usize::MAX).min(1 << 20)))
}

fn split_globs(text: &str) -> Vec<String> {
    let mut depth = 0;
    let mut globs = vec![String::new()];
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c == ',' || c.is_whitespace()) {
            globs.push(String::new());
        } else if let Some(last) = globs.last_mut() {
            last.push(c);
        }
    }
    globs.retain(|glob| !glob.is_empty());
    globs
}

#[cfg(test)]
mod tests {
    use super::split_globs;

    #[test]
    fn several_globs_are_told_apart() {
        assert_eq!(split_globs("*.{ts,tsx}, !*.d.ts *.js"), ["*.{ts,tsx}", "!*.d.ts", "*.js"]);
    }
}
