//! This machine's own programs as a base, where no Debian tree can be made.
//!
//! What is shown is an allow-list: `/usr` without what is large and of no use inside, and a small
//! `/etc` put together by name. Of these only what everybody may read, and nothing set-user-id. Files
//! are hard links where the file system allows: an overlay never writes to them, and an upgrade of the
//! machine replaces files instead of changing them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::durable;
use crate::error::{Error, Result};
use crate::image::digest::Hasher;
use crate::image::layer::{LayerId, LayerStore};

const RECIPE: &str = "1";
/// Of `/usr`: what programs need to run.
const USR: [&str; 7] = ["bin", "sbin", "lib", "lib64", "libexec", "share", "local"];
/// Below `/usr`, large and of no use to a program in a sandbox.
const LEFT_OUT: [&str; 13] = [
    "share/doc",
    "share/man",
    "share/info",
    "share/locale",
    "share/icons",
    "share/fonts",
    "share/help",
    "lib/modules",
    "lib/firmware",
    "lib/jvm",
    "lib/debug",
    "lib/llvm",
    "local/games",
];
/// Of `/etc`: what programs look up about names, users, libraries and certificates.
const ETC: [&str; 16] = [
    "alternatives",
    "ca-certificates.conf",
    "debian_version",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "perl",
    "protocols",
    "python3",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];
const ROOT_LINKS: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nadm:x:4:\ntty:x:5:\nstaff:x:50:\nnogroup:x:65534:\n";

/// The layer of this machine as it is now.
pub(super) fn layer_id() -> LayerId {
    let mut hasher = Hasher::new("host");
    hasher.part(RECIPE);
    for path in ["/usr/bin", "/usr/lib", "/var/lib/dpkg/status", "/etc/os-release"] {
        let changed = fs::metadata(path).map(|found| (found.mtime(), found.mtime_nsec()));
        hasher.part(format!("{changed:?}"));
    }
    LayerId::of(&hasher)
}

/// The Python series of this machine's `python3`, such as `3.11`.
pub(super) fn python() -> Option<String> {
    let target = fs::read_link("/usr/bin/python3").ok()?;
    Some(target.file_name()?.to_str()?.strip_prefix("python")?.to_owned())
}

/// Puts the tree together. Blocks; takes seconds.
pub(super) fn make(id: &LayerId, store: &LayerStore) -> Result<()> {
    let scratch = store.scratch()?;
    let tree = scratch.path().join("tree");
    for directory in ["usr", "etc", "root", "tmp", "run", "var/tmp", "var/log", "home", "opt"] {
        durable::create_dir(&tree.join(directory), 0o755)?;
    }
    for directory in ["tmp", "var/tmp"] {
        durable::create_dir(&tree.join(directory), 0o1777)?;
    }
    durable::create_dir(&tree.join("root"), 0o700)?;
    for name in USR {
        copy(&Path::new("/usr").join(name), &tree.join("usr").join(name), &is_left_out)?;
    }
    for name in ETC {
        let target = tree.join("etc").join(name);
        if let Some(parent) = target.parent() {
            durable::create_dir(parent, 0o755)?;
        }
        copy(&Path::new("/etc").join(name), &target, &|_| false)?;
    }
    for name in ROOT_LINKS {
        copy(&Path::new("/").join(name), &tree.join(name), &|_| false)?;
    }
    finish(&tree)?;
    store.commit(id, &tree)
}

fn is_left_out(path: &Path) -> bool {
    path.strip_prefix("/usr").is_ok_and(|path| LEFT_OUT.iter().any(|name| path == Path::new(name)))
}

fn finish(tree: &Path) -> Result<()> {
    let files = [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/hostname", ""),
        ("etc/resolv.conf", ""),
    ];
    for (name, text) in files {
        let path = tree.join(name);
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    let python = tree.join("usr/bin/python");
    if tree.join("usr/bin/python3").exists() && !python.is_symlink() && !python.exists() {
        symlink("python3", &python).map_err(Error::file("link", &python))?;
    }
    if let Some(series) = self::python() {
        durable::remove_file(&tree.join(format!("usr/lib/python{series}/EXTERNALLY-MANAGED")))?;
    }
    Ok(())
}

/// Copies what everybody may read; a missing source is no error.
fn copy(source: &Path, target: &Path, left_out: &dyn Fn(&Path) -> bool) -> Result<()> {
    let walk = walkdir::WalkDir::new(source).into_iter();
    for entry in walk.filter_entry(|entry| !left_out(entry.path())).flatten() {
        let from = entry.path();
        let to = match from.strip_prefix(source) {
            Ok(rest) if rest.as_os_str().is_empty() => target.to_owned(),
            Ok(rest) => target.join(rest),
            Err(_) => continue,
        };
        let Ok(metadata) = fs::symlink_metadata(from) else { continue };
        if metadata.is_symlink() {
            let link = fs::read_link(from).map_err(Error::file("read", from))?;
            symlink(link, &to).map_err(Error::file("link", &to))?;
        } else if metadata.is_dir() {
            durable::create_dir(&to, metadata.mode() & 0o1755)?;
        } else if metadata.is_file() && is_for_everybody(metadata.mode()) {
            link_or_copy(from, &to, metadata.mode())?;
        }
    }
    Ok(())
}

/// Readable by others, and not set-user-id or set-group-id.
fn is_for_everybody(mode: u32) -> bool {
    mode & 0o004 != 0 && mode & 0o6000 == 0
}

fn link_or_copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        // Another file system, or a file that is not ours to link.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices | io::ErrorKind::PermissionDenied
            ) =>
        {
            fs::copy(from, to).map_err(Error::file("copy", from))?;
            let permissions = fs::Permissions::from_mode(mode & 0o755);
            fs::set_permissions(to, permissions).map_err(Error::file("set the mode of", to))
        }
        // Its directory was left out because it is a link elsewhere, or it is gone by now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file("link", to)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_everybody_may_read_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        for (name, mode) in [("open", 0o644), ("private", 0o600), ("setuid", 0o4755)] {
            let path = source.join("sub").join(name);
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/etc/shadow", source.join("link")).unwrap();
        let target = dir.path().join("target");
        copy(&source, &target, &|path| path.ends_with("never")).unwrap();
        assert!(target.join("sub/open").is_file());
        assert!(!target.join("sub/private").exists() && !target.join("sub/setuid").exists());
        assert!(target.join("link").is_symlink(), "links are copied as links");
    }
}
