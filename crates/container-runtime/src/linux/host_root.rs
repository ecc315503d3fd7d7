//! A base layer made of this machine's own programs, for when no distribution can be fetched.
//!
//! An allow-list: `/usr` without documentation, the links beside it, the package database, and the few files of
//! `/etc` that programs need, all of them only as far as everyone on this machine may read them. So showing the layer
//! through an id-mapped mount reveals nothing that an ordinary user here could not read; home directories, `/opt`,
//! `/srv`, `/var/tmp`, keys and passwords are not in it.
//!
//! Files are hard links where the layer lies on the same file system, else copies; overlayfs never writes to a layer, so
//! the machine's files cannot change through it.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Directories at the top that are links into `/usr`, or real ones on older systems.
const TOP: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Empty directories at the top.
const EMPTY: [(&str, u32); 12] = [
    ("boot", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("tmp", 0o1777),
    ("var/cache", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];
/// Parts of `/usr` that no program needs.
const LEFT_OUT: [&str; 6] =
    ["share/doc", "share/info", "share/locale", "share/man", "src", "lib/debug"];
/// What programs need of `/etc`.
const ETC: [&str; 35] = [
    "adduser.conf",
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debconf.conf",
    "debian_version",
    "default/useradd",
    "deluser.conf",
    "dpkg",
    "ethertypes",
    "gai.conf",
    "host.conf",
    "inputrc",
    "issue",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "login.defs",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pam.conf",
    "pam.d",
    "perl",
    "profile",
    "protocols",
    "python3",
    "security",
    "services",
    "shells",
    "skel",
    "ssl",
];
/// Other directories a package manager needs.
const STATE: [&str; 2] = ["var/lib/dpkg", "var/lib/pam"];

/// Makes the layer at `target`, which must not exist; it appears there complete or not at all.
///
/// Takes seconds: every file of `/usr` is linked once. Blocks; call it where that is right.
pub fn layer(target: &Path) -> Result<()> {
    let making = target.with_extension("making");
    if making.exists() {
        super::remove_tree::remove_tree(&making).map_err(Error::host("remove", &making))?;
    }
    build(&making).map_err(Error::host("make a layer of this machine's programs in", &making))?;
    fs::rename(&making, target).map_err(Error::host("rename to", target))
}

fn build(root: &Path) -> io::Result<()> {
    directory(root, 0o755)?;
    for name in TOP {
        copy(&Path::new("/").join(name), &root.join(name), &[])?;
    }
    let left_out: Vec<PathBuf> = LEFT_OUT.iter().map(|name| Path::new("/usr").join(name)).collect();
    copy(Path::new("/usr"), &root.join("usr"), &left_out)?;
    for (name, mode) in EMPTY {
        directory(&root.join(name), mode)?;
    }
    for name in ETC.iter().map(|name| format!("etc/{name}")).chain(STATE.map(str::to_owned)) {
        let to = root.join(&name);
        if let Some(parent) = to.parent() {
            directory(parent, 0o755)?;
        }
        copy(&Path::new("/").join(&name), &to, &[])?;
    }
    accounts(&root.join("etc"))
}

/// A directory with exactly this mode, and its parents.
fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Links or copies what everyone may read; a missing source is no error.
fn copy(from: &Path, to: &Path, left_out: &[PathBuf]) -> io::Result<()> {
    let Some(found) = readable_by_all(from)? else { return Ok(()) };
    let mut pending = vec![(from.to_path_buf(), to.to_path_buf(), found)];
    while let Some((from, to, found)) = pending.pop() {
        if found.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if found.is_file() {
            link_or_copy(&from, &to, &found)?;
        } else if found.is_dir() {
            directory(&to, found.permissions().mode() & 0o755)?;
            for entry in fs::read_dir(&from)? {
                let path = entry?.path();
                let name = path.file_name().map(OsStr::to_os_string).unwrap_or_default();
                if left_out.contains(&path) {
                    continue;
                }
                if let Some(found) = readable_by_all(&path)? {
                    pending.push((path, to.join(name), found));
                }
            }
        }
    }
    Ok(())
}

/// A file, directory or link that any user may read, without following it.
fn readable_by_all(path: &Path) -> io::Result<Option<Metadata>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let needed = if found.is_dir() { 0o005 } else { 0o004 };
    let plain = found.is_dir() || found.is_file() || found.is_symlink();
    let open = found.is_symlink() || found.mode() & needed == needed;
    // Ids above the container's range would be nobody's inside.
    Ok((plain && open && found.uid() < 65_536 && found.gid() < 65_536).then_some(found))
}

/// A file that may change its user gets a copy without that bit, so that the machine's own stays as it is.
fn link_or_copy(from: &Path, to: &Path, found: &Metadata) -> io::Result<()> {
    let changes_user = found.mode() & 0o6000 != 0;
    if !changes_user && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o755))
}

/// The distribution's own users and groups, without this machine's people and without passwords.
fn accounts(etc: &Path) -> io::Result<()> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    fs::write(
        etc.join("passwd"),
        system_lines(&passwd, |fields| {
            let [name, _, uid, gid, _, home, shell] = fields else { return None };
            Some(format!("{name}:x:{uid}:{gid}:{name}:{home}:{shell}"))
        }),
    )?;
    let group = fs::read_to_string("/etc/group")?;
    fs::write(
        etc.join("group"),
        system_lines(&group, |fields| {
            let [name, _, gid, _] = fields else { return None };
            Some(format!("{name}:x:{gid}:"))
        }),
    )?;
    let shadow =
        system_lines(&passwd, |fields| Some(format!("{}:*:19000:0:99999:7:::", fields[0])));
    fs::write(etc.join("shadow"), shadow)?;
    fs::set_permissions(etc.join("shadow"), fs::Permissions::from_mode(0o640))?;
    fs::write(etc.join("environment"), "")?;
    fs::write(etc.join("hostname"), "localhost\n")?;
    fs::write(etc.join("hosts"), "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
}

/// Lines whose third field is an id of the distribution, rewritten.
fn system_lines(text: &str, rewrite: impl Fn(&[&str]) -> Option<String>) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let id = fields.get(2).and_then(|id| id.parse::<u32>().ok());
        if !id.is_some_and(|id| id < 1000 || id == 65_534) {
            continue;
        }
        if let Some(line) = rewrite(&fields) {
            lines.push_str(&line);
            lines.push('\n');
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_of_this_machine_are_left_out() {
        let passwd = "root:x:0:0:The Boss:/root:/bin/bash\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n";
        let kept = system_lines(passwd, |fields| Some(fields.join(":")));
        assert_eq!(kept, "root:x:0:0:The Boss:/root:/bin/bash\n");
    }

    #[test]
    fn only_what_everyone_may_read_is_copied() {
        let from = tempfile::tempdir().unwrap();
        fs::set_permissions(from.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(from.path().join("open"), "1").unwrap();
        fs::write(from.path().join("secret"), "2").unwrap();
        let narrow = fs::Permissions::from_mode(0o600);
        fs::set_permissions(from.path().join("secret"), narrow).unwrap();
        fs::write(from.path().join("su"), "3").unwrap();
        fs::set_permissions(from.path().join("su"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("/etc/shadow", from.path().join("link")).unwrap();
        fs::create_dir(from.path().join("out")).unwrap();
        let to = tempfile::tempdir().unwrap();
        let copied = to.path().join("copy");
        copy(from.path(), &copied, &[from.path().join("out")]).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&copied).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["link", "open", "su"]);
        assert_eq!(fs::metadata(copied.join("su")).unwrap().mode() & 0o7777, 0o755);
    }
}
