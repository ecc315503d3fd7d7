//! The tool Write: a whole file.

use async_trait::async_trait;
use serde_json::json;

use super::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec, Workspace, atomic, blocking, diff,
    workspace::check_kind,
};

/// Makes or replaces a file.
#[derive(Debug)]
pub(crate) struct Write {
    workspace: Workspace,
}

impl Write {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Write { workspace }
    }
}

#[async_trait]
impl Tool for Write {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "Write".into(),
            description: "Writes a whole file, in one step. Directories above it are made; a file that exists is \
                          replaced and keeps its mode. To change a part of a file, use Edit."
                .into(),
            brief: "Writes a whole file, replacing what was there.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "file_path": {"type": "string", "description": "Absolute path of the file"},
                    "content": {"type": "string", "description": "All of the file's text"},
                },
                "required": ["file_path", "content"],
            }),
            read_only: false,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let path = self.workspace.resolve(&arguments.required_text("file_path")?);
        let content = arguments.required_text("content")?;
        blocking(move || {
            let before = std::fs::metadata(&path);
            if let Ok(metadata) = &before {
                check_kind(&path, metadata)?;
            }
            // Old text that can be shown: not huge, not binary.
            let shown = before.as_ref().ok().filter(|it| it.len() < 1 << 20);
            let old = shown.and_then(|_| std::fs::read_to_string(&path).ok());
            atomic::replace(&path, content.as_bytes()).map_err(ToolError::io("write", &path))?;
            let (path, lines, bytes) = (path.display(), content.lines().count(), content.len());
            let verb = if before.is_ok() { "Replaced" } else { "Created" };
            let mut text = format!("{verb} {path}: {lines} lines, {bytes} bytes.");
            if let Some(old) = old {
                let changes = diff::unified(&old, &content);
                text.push_str(if changes.is_empty() { " Nothing changed." } else { "\n" });
                text.push_str(&changes);
            }
            Ok(ToolOutput::ok(text))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn write(
        folder: &tempfile::TempDir,
        path: &str,
        content: &str,
    ) -> Result<String, ToolError> {
        let tool = Write::new(Workspace { cwd: folder.path().into() });
        let arguments = json!({"file_path": path, "content": content}).to_string();
        let output = tool.call(Arguments::parse(&arguments).unwrap()).await?;
        Ok(output.text.replace(&folder.path().display().to_string(), "/w"))
    }

    #[tokio::test]
    async fn files_are_made_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let made = write(&folder, "a/b.txt", "one\ntwo\n").await.unwrap();
        assert_eq!(made, "Created /w/a/b.txt: 2 lines, 8 bytes.");
        let replaced = write(&folder, "a/b.txt", "one\n2\n").await.unwrap();
        insta::assert_snapshot!(replaced, @r"
        Replaced /w/a/b.txt: 2 lines, 6 bytes.
        @@ -1,2 +1,2 @@
         one
        -two
        +2
        ");
    }

    #[tokio::test]
    async fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&folder, ".", "x").await.unwrap_err().to_string().contains("is a directory"));
        assert!(write(&folder, "/dev/null", "x").await.unwrap_err().to_string().contains("device"));
        write(&folder, "file", "x").await.unwrap();
        assert!(write(&folder, "file/below", "x").await.is_err());
    }
}
