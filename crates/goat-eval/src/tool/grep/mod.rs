//! The tool Grep: files by content, with ripgrep's libraries.

mod options;
mod output;

use std::path::Path;

use async_trait::async_trait;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};
use serde_json::json;

use options::Options;
use output::{FileSink, Found};

use super::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec, Workspace, blocking,
    walk::{self, Deadline},
    workspace::check_kind,
};

/// Finds files by content.
#[derive(Debug)]
pub(crate) struct Grep {
    workspace: Workspace,
}

impl Grep {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Grep { workspace }
    }
}

#[async_trait]
impl Tool for Grep {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "Grep".into(),
            description: "Searches files for a regular expression (Rust's syntax; literal braces are `\\{`). Shows \
                          paths of files; with `output_mode` content the lines, with count their number. Files that \
                          version control ignores, and binary ones, are left out."
                .into(),
            brief: "Searches files for a regular expression.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "pattern": {"type": "string", "description": "Regular expression"},
                    "path": {"type": "string", "description": "File or directory; the working directory if absent"},
                    "glob": {"type": "string", "description": "Only files like this: `*.js`, `src/**`, `!*.min.js`"},
                    "type": {"type": "string", "description": "Only files of a type: rust, py, js, go, …"},
                    "output_mode": {"type": "string", "enum": ["content", "files_with_matches", "count"],
                                    "default": "files_with_matches"},
                    "case_insensitive": {"type": "boolean", "description": "Ignore case; also -i"},
                    "show_line_numbers": {"type": "boolean", "default": true, "description": "In content; also -n"},
                    "after_context": {"type": "integer", "description": "Lines after each match; also -A"},
                    "before_context": {"type": "integer", "description": "Lines before each match; also -B"},
                    "context_lines": {"type": "integer", "description": "Lines on both sides; also -C"},
                    "head_limit": {"type": "integer", "description": "Lines, files or counts at most"},
                    "multiline": {"type": "boolean", "description": "Let matches go over lines, and `.` match a line's end"},
                    "-i": {"type": "boolean"},
                    "-n": {"type": "boolean"},
                    "-A": {"type": "integer"},
                    "-B": {"type": "integer"},
                    "-C": {"type": "integer"},
                },
                "required": ["pattern"],
            }),
            read_only: true,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let options = Options::read(&arguments)?;
        let workspace = self.workspace.clone();
        blocking(move || search(&workspace, &options)).await.map(ToolOutput::ok)
    }
}

fn search(workspace: &Workspace, options: &Options) -> Result<String, ToolError> {
    let root = workspace.resolve(&options.path);
    let metadata = std::fs::metadata(&root).map_err(ToolError::io("search", &root))?;
    let matcher = options.matcher()?;
    let mut searcher = searcher(options);
    let deadline = Deadline::start();
    let mut found = Found::new(options.mode, options.head_limit, deadline);
    if metadata.is_dir() {
        let (chosen, types) = (options.chosen_files(&root)?, options.types()?);
        for entry in walk::files(&root, chosen, types)
            .filter(|it| it.file_type().is_some_and(|kind| kind.is_file()))
        {
            if found.is_full() || deadline.is_over() {
                break;
            }
            search_file(&mut searcher, &matcher, workspace, entry.path(), options, &mut found);
        }
    } else {
        check_kind(&root, &metadata)?;
        search_file(&mut searcher, &matcher, workspace, &root, options, &mut found);
    }
    Ok(found.render())
}

fn searcher(options: &Options) -> Searcher {
    SearcherBuilder::new()
        .binary_detection(BinaryDetection::quit(0))
        .line_number(true)
        .multi_line(options.multiline)
        .before_context(options.before)
        .after_context(options.after)
        .build()
}

fn search_file(
    searcher: &mut Searcher,
    matcher: &grep_regex::RegexMatcher,
    workspace: &Workspace,
    path: &Path,
    options: &Options,
    found: &mut Found,
) {
    let mut sink = FileSink::new(workspace.show(path), options.line_numbers, found);
    // A file that can't be read (permissions, gone meanwhile) is skipped, as ripgrep does.
    if searcher.search_path(matcher, path, &mut sink).is_ok() {
        sink.end_file();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 6] = [
            ("a.txt", b"one goat\ntwo\nthree\nfour Goat\n"),
            ("b.rs", b"fn goat() {\n    ()\n}\n"),
            ("sub/c.txt", b"goat goat\n"),
            ("sub/bin.dat", b"goat\0goat\n"),
            ("ignored.log", b"goat\n"),
            (".gitignore", b"*.log\n"),
        ];
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        folder
    }

    async fn grep(folder: &tempfile::TempDir, arguments: serde_json::Value) -> String {
        let tool = Grep::new(Workspace { cwd: folder.path().into() });
        match tool.call(Arguments::parse(&arguments.to_string()).unwrap()).await {
            Ok(output) => output.text,
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn modes_show_files_lines_and_counts() {
        let folder = tree();
        assert_eq!(grep(&folder, json!({"pattern": "goat"})).await, "a.txt\nb.rs\nsub/c.txt");
        let lines =
            grep(&folder, json!({"pattern": "goat", "output_mode": "content", "-i": true})).await;
        assert_eq!(
            lines,
            "a.txt:1:one goat\na.txt:4:four Goat\nb.rs:1:fn goat() {\nsub/c.txt:1:goat goat"
        );
        let counts = grep(&folder, json!({"pattern": "(?i)goat", "output_mode": "count"})).await;
        assert_eq!(counts, "a.txt:2\nb.rs:1\nsub/c.txt:1");
    }

    #[tokio::test]
    async fn context_is_shown_as_ripgrep_shows_it() {
        let folder = tree();
        let arguments = json!({"pattern": "goat", "path": "a.txt", "output_mode": "content", "-A": "1",
                               "before_context": 1, "case_insensitive": true});
        insta::assert_snapshot!(grep(&folder, arguments).await, @r"
        a.txt:1:one goat
        a.txt-2-two
        a.txt-3-three
        a.txt:4:four Goat
        ");
        let arguments =
            json!({"pattern": "t(wo|hree)|Goat", "output_mode": "content", "-C": 0, "-n": false});
        insta::assert_snapshot!(grep(&folder, arguments).await, @r"
        a.txt:two
        a.txt:three
        a.txt:four Goat
        ");
    }

    #[tokio::test]
    async fn separate_groups_are_separated() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), "x\n1\n2\n3\n4\nx\n").unwrap();
        let arguments = json!({"pattern": "x", "output_mode": "content", "context_lines": 1});
        assert_eq!(grep(&folder, arguments).await, "f:1:x\nf-2-1\n--\nf-5-4\nf:6:x");
    }

    #[tokio::test]
    async fn files_are_chosen_by_glob_and_type() {
        let folder = tree();
        assert_eq!(
            grep(&folder, json!({"pattern": "goat", "glob": "*.txt"})).await,
            "a.txt\nsub/c.txt"
        );
        assert_eq!(grep(&folder, json!({"pattern": "goat", "glob": "!*.txt"})).await, "b.rs");
        assert_eq!(grep(&folder, json!({"pattern": "goat", "type": "rust"})).await, "b.rs");
        let told = grep(&folder, json!({"pattern": "goat", "type": "klingon"})).await;
        assert_eq!(told, "unknown file type `klingon`; use `glob` instead");
    }

    #[tokio::test]
    async fn matches_may_go_over_lines_on_request() {
        let folder = tree();
        let arguments =
            json!({"pattern": "goat.*\\}", "output_mode": "content", "multiline": true});
        insta::assert_snapshot!(grep(&folder, arguments).await, @r"
        b.rs:1:fn goat() {
        b.rs:2:    ()
        b.rs:3:}
        ");
        let told = grep(&folder, json!({"pattern": "a\\nb"})).await;
        assert!(told.contains("multiline"), "{told}");
    }

    #[tokio::test]
    async fn limits_and_mistakes_are_told() {
        let folder = tree();
        let arguments = json!({"pattern": "goat", "head_limit": 2});
        assert_eq!(grep(&folder, arguments).await, "a.txt\nb.rs\n[Only the first 2 are shown.]");
        assert_eq!(grep(&folder, json!({"pattern": "nowhere"})).await, "No matches.");
        assert!(grep(&folder, json!({"pattern": "("})).await.starts_with("bad pattern"));
        let told = grep(&folder, json!({"pattern": "x", "output_mode": "lines"})).await;
        assert_eq!(told, "parameter `output_mode` must be content, files_with_matches or count");
        assert!(
            grep(&folder, json!({"pattern": "x", "path": "/dev/zero"})).await.contains("device")
        );
    }
}
