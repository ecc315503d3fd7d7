//! The tool Glob: files by name.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use async_trait::async_trait;
use globset::{GlobBuilder, GlobMatcher};
use ignore::{overrides::Override, types::Types};
use serde_json::json;

use super::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec, Workspace, blocking,
    walk::{self, Deadline},
};

/// Files of one result at most.
const MOST: usize = 500;

/// Finds files by name.
#[derive(Debug)]
pub(crate) struct Glob {
    workspace: Workspace,
}

impl Glob {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Glob { workspace }
    }
}

#[async_trait]
impl Tool for Glob {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "Glob".into(),
            description: "Finds files by name, newest first. `*` stays within one directory, `**` goes through all: \
                          `**/*.rs`, `src/*.{ts,tsx}`. Files that version control ignores are left out."
                .into(),
            brief: "Finds files by a pattern such as `**/*.rs`.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "pattern": {"type": "string", "description": "Pattern of the path below `path`"},
                    "path": {"type": "string", "description": "Directory to search; the working directory if absent"},
                },
                "required": ["pattern"],
            }),
            read_only: true,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let pattern = arguments.required_text("pattern")?;
        let path =
            arguments.text("path")?.filter(|path| !path.is_empty()).unwrap_or_else(|| ".".into());
        let base = self.workspace.resolve(&path);
        let workspace = self.workspace.clone();
        blocking(move || {
            let (root, pattern) = split_base(&base, &pattern);
            let matcher = matcher(&pattern)?;
            if !root.is_dir() {
                return Err(ToolError::Failed(format!("`{}` is not a directory", root.display())));
            }
            Ok(ToolOutput::ok(find(&workspace, &root, &matcher)))
        })
        .await
    }
}

fn matcher(pattern: &str) -> Result<GlobMatcher, ToolError> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    let glob = glob.map_err(|error| ToolError::Failed(format!("bad pattern: {error}")))?;
    Ok(glob.compile_matcher())
}

/// Moves directories that the pattern names plainly into the root: of `/src/**/*.rs` that is `/src`.
fn split_base(base: &Path, pattern: &str) -> (PathBuf, String) {
    let plain_end = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    match pattern[..plain_end].rfind('/') {
        Some(0) => (PathBuf::from("/"), pattern[1..].to_owned()),
        Some(at) => {
            (base.join(pattern[..at].trim_start_matches("./")), pattern[at + 1..].to_owned())
        }
        None => (base.to_owned(), pattern.to_owned()),
    }
}

fn find(workspace: &Workspace, root: &Path, matcher: &GlobMatcher) -> String {
    let deadline = Deadline::start();
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in
        walk::files(root, Override::empty(), Types::empty()).take_while(|_| !deadline.is_over())
    {
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        if matcher.is_match(below) {
            let changed = entry.metadata().ok().and_then(|it| it.modified().ok());
            found.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), entry.into_path()));
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut lines: Vec<String> =
        found.iter().take(MOST).map(|(_, path)| workspace.show(path)).collect();
    if found.is_empty() {
        lines.push(
            "No files match. A pattern with `**/` in front looks into all directories.".into(),
        );
    } else if found.len() > MOST {
        lines.push(format!("[{MOST} of {} files are shown; use a narrower pattern.]", found.len()));
    }
    if deadline.is_over() {
        lines.push(walk::STOPPED_EARLY.into());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn glob(folder: &Path, arguments: &str) -> String {
        let tool = Glob::new(Workspace { cwd: folder.into() });
        let result = tool.call(Arguments::parse(arguments).unwrap()).await;
        let mut lines: Vec<String> = match result {
            Ok(output) => output.text.lines().map(str::to_owned).collect(),
            Err(error) => vec![error.to_string()],
        };
        lines.sort();
        lines.join("\n")
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "a.rs",
            "src/b.rs",
            "src/deep/c.rs",
            "src/d.ts",
            ".github/e.yml",
            "target/f.rs",
            ".git/g.rs",
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::write(folder.path().join(".gitignore"), "target\n").unwrap();
        folder
    }

    #[tokio::test]
    async fn patterns_mean_what_they_do_elsewhere() {
        let folder = tree();
        let glob = |arguments: &'static str| glob(folder.path(), arguments);
        assert_eq!(glob(r#"{"pattern": "*.rs"}"#).await, "a.rs");
        assert_eq!(glob(r#"{"pattern": "**/*.rs"}"#).await, "a.rs\nsrc/b.rs\nsrc/deep/c.rs");
        assert_eq!(glob(r#"{"pattern": "*.{rs,ts}", "path": "src"}"#).await, "src/b.rs\nsrc/d.ts");
        assert_eq!(glob(r#"{"pattern": "./src/**/c.*"}"#).await, "src/deep/c.rs");
        assert_eq!(glob(r#"{"pattern": "**/*.yml"}"#).await, ".github/e.yml");
        assert!(glob(r#"{"pattern": "*.py"}"#).await.starts_with("No files match."));
        assert!(glob(r#"{"pattern": "a["}"#).await.starts_with("bad pattern"));
        assert!(glob(r#"{"pattern": "*", "path": "none"}"#).await.ends_with("is not a directory"));
    }

    #[tokio::test]
    async fn absolute_patterns_and_the_newest_first() {
        let folder = tree();
        let pattern = format!(r#"{{"pattern": "{}/src/*.rs"}}"#, folder.path().display());
        assert_eq!(glob(folder.path(), &pattern).await, "src/b.rs");
        let old = std::fs::File::open(folder.path().join("src/b.rs")).unwrap();
        old.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let tool = Glob::new(Workspace { cwd: folder.path().into() });
        let arguments = Arguments::parse(r#"{"pattern": "src/*"}"#).unwrap();
        assert_eq!(tool.call(arguments).await.unwrap().text, "src/d.ts\nsrc/b.rs");
    }
}
