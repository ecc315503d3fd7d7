//! Where the tools work.

use std::{
    fs::{File, Metadata},
    path::{Path, PathBuf},
};

use super::ToolError;

/// The directory that a run works in.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Absolute.
    pub cwd: PathBuf,
}

impl Workspace {
    /// The file that a model means: paths should be absolute, others count from the working directory.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let path = path.strip_prefix("file://").unwrap_or(path);
        self.cwd.join(path)
    }

    /// How a path is shown: without the working directory, where it lies in it.
    pub fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.cwd).unwrap_or(path).display().to_string()
    }
}

/// Opens a file for reading and refuses whatever is none: a pipe would never end, a device never stop.
pub(crate) fn open_file(path: &Path) -> Result<(File, Metadata), ToolError> {
    let metadata = std::fs::metadata(path).map_err(ToolError::io("read", path))?;
    check_kind(path, &metadata)?;
    let file = File::open(path).map_err(ToolError::io("read", path))?;
    Ok((file, metadata))
}

/// An error unless this is an ordinary file.
pub(crate) fn check_kind(path: &Path, metadata: &Metadata) -> Result<(), ToolError> {
    if metadata.is_dir() {
        let path = path.display();
        return Err(ToolError::Failed(format!(
            "`{path}` is a directory; list it with Glob, or `ls` in Bash"
        )));
    }
    if !metadata.is_file() {
        return Err(ToolError::Failed(format!(
            "`{}` is a pipe, a socket or a device, not a file",
            path.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_and_shown() {
        let workspace = Workspace { cwd: "/w".into() };
        assert_eq!(workspace.resolve("a/b"), Path::new("/w/a/b"));
        assert_eq!(workspace.resolve("/x"), Path::new("/x"));
        assert_eq!(workspace.show(Path::new("/w/a")), "a");
        assert_eq!(workspace.show(Path::new("/x/a")), "/x/a");
    }

    #[test]
    fn only_files_are_opened() {
        let told = |path: &str| open_file(Path::new(path)).unwrap_err().to_string();
        insta::assert_snapshot!(told("/dev"), @"`/dev` is a directory; list it with Glob, or `ls` in Bash");
        insta::assert_snapshot!(told("/dev/zero"), @"`/dev/zero` is a pipe, a socket or a device, not a file");
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(
            told(pipe.to_str().unwrap()).ends_with("is a pipe, a socket or a device, not a file")
        );
        insta::assert_snapshot!(told("/none"), @"cannot read `/none`: No such file or directory (os error 2)");
    }
}
