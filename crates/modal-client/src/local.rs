//! Local files and trees that are to be sent somewhere: which there are, under which names and modes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::ignore_rules::IgnoreRules;

/// A local file and the name it gets on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalFile {
    pub(crate) path: PathBuf,
    pub(crate) remote: String,
    /// Permission bits, 12 of them.
    pub(crate) mode: u32,
    /// What it holds, where it is a file in name only; otherwise `path` is read.
    pub(crate) data: Option<Bytes>,
}

impl LocalFile {
    /// A file that is nowhere but in memory.
    pub(crate) fn in_memory(data: impl Into<Bytes>, remote: String) -> Self {
        let path = PathBuf::from(&remote);
        Self { path, remote, mode: 0o644, data: Some(data.into()) }
    }

    /// What it holds. Blocking.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => fs::read(&self.path).map(Bytes::from),
        }
    }
}

/// A file that could not be looked at.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

pub(crate) fn file(path: &Path, remote: &str) -> Result<LocalFile, Unreadable> {
    let metadata =
        fs::metadata(path).map_err(|source| Unreadable { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "expected a file");
        return Err(Unreadable { path: path.to_owned(), source });
    }
    let (remote, mode) = (remote.to_owned(), mode(&metadata));
    Ok(LocalFile { path: path.to_owned(), remote, mode, data: None })
}

/// Every file below `root`, named below `remote`, in the order of their names. Links to files count
/// as files, links to directories are left out (as in Modal's own client), and so are empty directories.
/// What `rules` leave out is not among them.
pub(crate) fn tree(
    root: &Path,
    remote: &str,
    rules: &IgnoreRules,
) -> Result<Vec<LocalFile>, Unreadable> {
    let mut files = Vec::new();
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    let entries = entries.filter_entry(|entry| {
        entry.depth() == 0
            || !entry.file_type().is_dir()
            || !rules.can_skip_directories()
            || !rules.ignores(&relative(entry.path()))
    });
    for entry in entries {
        let entry = entry.map_err(|error| Unreadable {
            path: error.path().unwrap_or(root).to_owned(),
            source: error.into(),
        })?;
        if entry.depth() == 0 {
            check_directory(root)?;
            continue;
        }
        let is_file =
            entry.file_type().is_file() || entry.file_type().is_symlink() && entry.path().is_file();
        let relative = relative(entry.path());
        if is_file && !rules.ignores(&relative) {
            files.push(file(entry.path(), &join(remote, &posix(&relative)))?);
        }
    }
    Ok(files)
}

fn check_directory(root: &Path) -> Result<(), Unreadable> {
    if root.is_dir() {
        return Ok(());
    }
    let source = io::Error::new(io::ErrorKind::NotADirectory, "expected a directory");
    Err(Unreadable { path: root.to_owned(), source })
}

fn posix(path: &Path) -> String {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

pub(crate) fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

#[cfg(unix)]
fn mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o7777
}

#[cfg(not(unix))]
fn mode(_: &fs::Metadata) -> u32 {
    0o644
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_its_files_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        for name in ["z", "a", "b/c/x"] {
            fs::write(root.join(name), name).unwrap();
        }
        let names = |remote| -> Vec<String> {
            tree(root, remote, &IgnoreRules::default())
                .unwrap()
                .into_iter()
                .map(|file| file.remote)
                .collect()
        };
        assert_eq!(names("/d"), ["/d/a", "/d/b/c/x", "/d/z"]);
        assert_eq!(names("/"), ["/a", "/b/c/x", "/z"]);
    }

    #[test]
    fn rules_leave_files_and_directories_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        for name in ["z", "a", "b/y", "b/c/x"] {
            fs::write(root.join(name), name).unwrap();
        }
        let names = |rules: &[&str]| -> Vec<String> {
            let rules = IgnoreRules::new(rules).unwrap();
            tree(root, "/", &rules).unwrap().into_iter().map(|file| file.remote).collect()
        };
        assert_eq!(names(&["b/c", "z"]), ["/a", "/b/y"]);
        assert_eq!(names(&["b", "!b/c/x"]), ["/a", "/b/c/x", "/z"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = tree(Path::new("/nonexistent/x"), "/", &IgnoreRules::default()).unwrap_err();
        assert_eq!(error.path, Path::new("/nonexistent/x"));
        assert!(file(Path::new("/"), "/x").is_err());
    }
}
