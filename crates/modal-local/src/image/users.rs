//! Users and groups by name, as an image's own files say.

use std::fs;
use std::path::PathBuf;

/// A user as `USER`, `--chown` or a number names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// The image has no such user or group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the image has no {kind} `{name}`")]
pub(super) struct UnknownUser {
    kind: &'static str,
    name: String,
}

/// Finds `user[:group]`, names or numbers, in the files of `layers`, lowest first.
pub(super) fn find(layers: &[PathBuf], text: &str) -> Result<User, UnknownUser> {
    let passwd = read(layers, "etc/passwd");
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let entry = line_of(&passwd, name);
    let field = |index: usize| entry.as_ref().and_then(|fields| fields.get(index).cloned());
    let number = |index: usize| field(index).and_then(|text| text.parse().ok());
    let unknown = || UnknownUser { kind: "user", name: name.to_owned() };
    let uid = name.parse().ok().or_else(|| number(2)).ok_or_else(unknown)?;
    let gid = match group {
        Some(group) => find_group(layers, group)?,
        None => number(3).unwrap_or(0),
    };
    Ok(User { uid, gid, home: field(5).unwrap_or_else(|| "/".to_owned()) })
}

fn find_group(layers: &[PathBuf], name: &str) -> Result<u32, UnknownUser> {
    let by_name = || {
        let fields = line_of(&read(layers, "etc/group"), name)?;
        fields.get(2)?.parse().ok()
    };
    let unknown = || UnknownUser { kind: "group", name: name.to_owned() };
    name.parse().ok().or_else(by_name).ok_or_else(unknown)
}

/// The fields of the line that begins with `name` or has it as its number.
fn line_of(text: &str, name: &str) -> Option<Vec<String>> {
    let is_it = |fields: &Vec<&str>| fields.first() == Some(&name) || fields.get(2) == Some(&name);
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(is_it)?;
    Some(fields.into_iter().map(str::to_owned).collect())
}

/// The topmost plain file; a link could lead anywhere on this machine.
fn read(layers: &[PathBuf], path: &str) -> String {
    let topmost = layers.iter().rev().map(|layer| layer.join(path));
    let mut found = topmost.filter(|path| path.symlink_metadata().is_ok_and(|file| file.is_file()));
    found.next().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number_in_the_topmost_file() {
        let dir = tempfile::tempdir().unwrap();
        let layers = ["low", "high", "empty"].map(|name| dir.path().join(name));
        for layer in &layers {
            fs::create_dir_all(layer.join("etc")).unwrap();
        }
        fs::write(layers[0].join("etc/passwd"), "app:x:5:5::/old:/bin/sh\n").unwrap();
        fs::write(layers[1].join("etc/passwd"), "app:x:7:8::/home/app:/bin/sh\n").unwrap();
        fs::write(layers[0].join("etc/group"), "staff:x:50:\n").unwrap();
        let user = |uid, gid, home: &str| Ok(User { uid, gid, home: home.to_owned() });
        assert_eq!(find(&layers, "app"), user(7, 8, "/home/app"));
        assert_eq!(find(&layers, "7:staff"), user(7, 50, "/home/app"));
        assert_eq!(find(&layers, "99"), user(99, 0, "/"));
        assert!(find(&layers, "nobody").is_err() && find(&layers, "app:nobody").is_err());
    }
}
