//! Paths inside a sandbox, as clients write them.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Directories that the container runtime fills itself.
const RESERVED: [&str; 3] = ["/proc", "/dev", "/sys"];

/// An absolute path without `..`; `what` is the field that it came in.
pub(super) fn absolute(what: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    let plain =
        path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || text.contains('\0') {
        let problem = "must be an absolute path without `..`";
        return Err(Error::invalid(format!("{what} {text:?} {problem}")));
    }
    Ok(path.components().collect())
}

/// A path that something can be mounted on.
pub(crate) fn mount_target(text: &str) -> Result<PathBuf> {
    let path = absolute("mount path", text)?;
    let reserved = RESERVED.iter().any(|dir| path.starts_with(dir));
    if reserved || path == Path::new("/") {
        return Err(Error::invalid(format!("nothing can be mounted on `{}`", path.display())));
    }
    Ok(path)
}

/// A directory of the sandbox's own, to be copied.
pub(crate) fn directory(text: &str) -> Result<PathBuf> {
    let path = absolute("directory", text)?;
    match RESERVED.iter().any(|dir| path.starts_with(dir)) {
        true => Err(Error::invalid(format!("`{}` is no directory of files", path.display()))),
        false => Ok(path),
    }
}
