//! Replaces files in one step: a reader, a crash or a full disk sees the old content or the new, never a part.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Mode of a new file, before the umask.
const NEW_FILE: u32 = 0o666;

/// Links followed before it counts as a circle.
const MOST_LINKS: usize = 40;

/// Makes `content` the content of the file at `path`, and the directories above it.
///
/// A link is followed, also one that points to nothing yet; the mode of an existing file stays. Where the directory
/// can't be written to but the file can, the file is rewritten in place.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = follow(path)?;
    let directory = match target.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let old = fs::metadata(&target).ok();
    let mode = old.as_ref().map(|old| old.permissions().mode() & 0o7777);
    match temporary(directory, mode, content) {
        Ok(file) => file.persist(&target).map(drop).map_err(|error| error.error),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && old.is_some() => {
            fs::write(&target, content)
        }
        Err(error) => Err(error),
    }
}

fn temporary(
    directory: &Path,
    mode: Option<u32>,
    content: &[u8],
) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".goat-eval-")
        .permissions(Permissions::from_mode(NEW_FILE))
        .tempfile_in(directory)?;
    file.write_all(content)?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

/// The file that `path` means when links at its end are followed, whether it exists or not.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = target.parent().unwrap_or(Path::new("/")).join(link),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_mode_stays_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.sh");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        replace(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_followed_and_stay_links() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("deep/file", &link).unwrap();
        replace(&link, b"x").unwrap();
        assert_eq!(fs::read(folder.path().join("deep/file")).unwrap(), b"x");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        symlink("circle", folder.path().join("circle")).unwrap();
        assert!(replace(&folder.path().join("circle"), b"x").is_err());
    }
}
