//! The tool Edit: one passage of a file.

use std::path::Path;

use async_trait::async_trait;
use serde_json::json;

use super::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec, Workspace, atomic, blocking, diff,
    encoding::{self, Encoding},
    workspace::open_file,
};

/// Larger files are not text that anyone edits.
const LARGEST: u64 = 64 << 20;

/// Places that are named where a passage is ambiguous.
const PLACES: usize = 8;

/// Replaces a passage.
#[derive(Debug)]
pub(crate) struct Edit {
    workspace: Workspace,
}

impl Edit {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Edit { workspace }
    }
}

#[async_trait]
impl Tool for Edit {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "Edit".into(),
            description: "Replaces a passage of a file. `old_string` must be the file's text exactly, with its \
                          indentation and without the line numbers that Read shows, and must occur once: take in \
                          lines around it until it does, or set `replace_all`. Returns the change as a diff."
                .into(),
            brief: "Replaces a passage that occurs exactly once in a file.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "file_path": {"type": "string", "description": "Absolute path of the file"},
                    "old_string": {"type": "string", "description": "The passage as it is"},
                    "new_string": {"type": "string", "description": "What takes its place"},
                    "replace_all": {"type": "boolean", "description": "Replace every occurrence", "default": false},
                },
                "required": ["file_path", "old_string", "new_string"],
            }),
            read_only: false,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let path = self.workspace.resolve(&arguments.required_text("file_path")?);
        let old = arguments.required_text("old_string")?;
        let new = arguments.required_text("new_string")?;
        let all = arguments.flag("replace_all")?;
        blocking(move || {
            let (before, encoding) = read(&path)?;
            let (after, count) = replaced(&before, &old, &new, all).map_err(ToolError::Failed)?;
            let bytes = encoding::encode(&after, encoding).ok_or_else(|| unwritable(encoding))?;
            atomic::replace(&path, &bytes).map_err(ToolError::io("write", &path))?;
            let times = if count == 1 { "1 place".to_owned() } else { format!("{count} places") };
            let changes = diff::unified(&before, &after);
            Ok(ToolOutput::ok(format!("Changed {} in {times}.\n{changes}", path.display())))
        })
        .await
    }
}

fn read(path: &Path) -> Result<(String, Encoding), ToolError> {
    let (_, metadata) = open_file(path)?;
    if metadata.len() > LARGEST {
        return Err(ToolError::Failed(format!(
            "`{}` is larger than 64 MiB; use a command in Bash",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(ToolError::io("read", path))?;
    let not_text =
        || ToolError::Failed(format!("`{}` is not text; use a command in Bash", path.display()));
    encoding::decode(&bytes).ok_or_else(not_text)
}

fn unwritable(encoding: Encoding) -> ToolError {
    let name = encoding.name().unwrap_or("UTF-8");
    ToolError::Failed(format!(
        "the file is {name}, which has no bytes for a character of `new_string`"
    ))
}

/// The new text and the number of replacements, or a sentence on why not.
fn replaced(text: &str, old: &str, new: &str, all: bool) -> Result<(String, usize), String> {
    if old.is_empty() {
        return Err("`old_string` is empty; use Write for a whole file".into());
    }
    if old == new {
        return Err("`old_string` and `new_string` are the same".into());
    }
    let count = text.matches(old).count();
    if count == 0 {
        return with_line_ends(text, old, new, all).unwrap_or_else(|| Err(not_found(text, old)));
    }
    if count > 1 && !all {
        return Err(ambiguous(text, old, count));
    }
    Ok((text.replace(old, new), count))
}

/// A file with CRLF is shown with plain line ends, so the model's passage has plain ones.
fn with_line_ends(
    text: &str,
    old: &str,
    new: &str,
    all: bool,
) -> Option<Result<(String, usize), String>> {
    let crlf = |text: &str| text.replace("\r\n", "\n").replace('\n', "\r\n");
    let wanted = crlf(old);
    (wanted != old && text.contains(&wanted)).then(|| replaced(text, &wanted, &crlf(new), all))
}

fn ambiguous(text: &str, old: &str, count: usize) -> String {
    let mut line = 1;
    let mut last = 0;
    let places = text.match_indices(old).take(PLACES).map(|(at, _)| {
        line += text[last..at].matches('\n').count();
        last = at;
        line.to_string()
    });
    let mut lines = places.collect::<Vec<_>>().join(", ");
    if count > PLACES {
        lines.push_str(", …");
    }
    format!(
        "`old_string` occurs {count} times (lines {lines}); take in more of the text around the one you mean, or set `replace_all`"
    )
}

fn not_found(text: &str, old: &str) -> String {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted = words(old);
    if !wanted.is_empty() && words(text).contains(&wanted) {
        return "`old_string` is not in the file as it is written, but is with other spaces or line breaks; read the file and copy the passage exactly".into();
    }
    "`old_string` is not in the file; read it again, it may have changed".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_passage_is_replaced_and_all_on_request() {
        assert_eq!(replaced("a b c", "b", "x", false), Ok(("a x c".into(), 1)));
        assert_eq!(replaced("b b", "b", "x", true), Ok(("x x".into(), 2)));
        assert_eq!(replaced("a\r\nb\r\n", "a\nb", "c\nd", false), Ok(("c\r\nd\r\n".into(), 1)));
    }

    #[test]
    fn doubts_are_refused_with_a_way_out() {
        let told = |text, old, new| replaced(text, old, new, false).unwrap_err();
        insta::assert_snapshot!(
            [
                told("x\ny\nx\n", "x", "z"),
                told("  a\n    b", "a\nb", "z"),
                told("abc", "q", "z"),
                told("abc", "", "z"),
                told("abc", "a", "a"),
            ]
            .join("\n"), @r"
        `old_string` occurs 2 times (lines 1, 3); take in more of the text around the one you mean, or set `replace_all`
        `old_string` is not in the file as it is written, but is with other spaces or line breaks; read the file and copy the passage exactly
        `old_string` is not in the file; read it again, it may have changed
        `old_string` is empty; use Write for a whole file
        `old_string` and `new_string` are the same
        ");
    }

    #[tokio::test]
    async fn the_change_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), "one\ntwo\n").unwrap();
        let tool = Edit::new(Workspace { cwd: folder.path().into() });
        let arguments = r#"{"file_path": "f", "old_string": "two", "new_string": "2"}"#;
        let output = tool.call(Arguments::parse(arguments).unwrap()).await.unwrap();
        insta::assert_snapshot!(output.text.replace(&folder.path().display().to_string(), "/w"), @r"
        Changed /w/f in 1 place.
        @@ -1,2 +1,2 @@
         one
        -two
        +2
        ");
    }

    #[tokio::test]
    async fn binary_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), b"\x7fELF\x00\x00").unwrap();
        let tool = Edit::new(Workspace { cwd: folder.path().into() });
        let arguments = r#"{"file_path": "f", "old_string": "two", "new_string": "2"}"#;
        let error = tool.call(Arguments::parse(arguments).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("is not text"), "{error}");
    }

    #[tokio::test]
    async fn a_file_keeps_its_encoding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, b"caf\xe9 one\n").unwrap();
        let tool = Edit::new(Workspace { cwd: folder.path().into() });
        let arguments = r#"{"file_path": "f", "old_string": "é one", "new_string": "é two"}"#;
        tool.call(Arguments::parse(arguments).unwrap()).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"caf\xe9 two\n");
        let arguments = r#"{"file_path": "f", "old_string": "two", "new_string": "日"}"#;
        let error = tool.call(Arguments::parse(arguments).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("no bytes for a character"), "{error}");
    }
}
