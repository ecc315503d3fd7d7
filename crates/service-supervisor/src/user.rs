//! Users of the container.

use std::path::Path;

/// Who a service runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Looks a name or a number up in a file like `/etc/passwd`. A number that is not in it is its own group.
pub(crate) fn find(passwd: &Path, user: &str) -> Option<User> {
    let text = std::fs::read_to_string(passwd).unwrap_or_default();
    let mut entries = text.lines().filter_map(entry);
    let number = user.parse().ok();
    let known = entries.find(|(name, found)| *name == user || Some(found.uid) == number);
    known.map(|(_, found)| found).or(number.map(|uid| User { uid, gid: uid }))
}

/// `name:password:uid:gid:…`
fn entry(line: &str) -> Option<(&str, User)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((name, User { uid, gid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\npostgres:x:70:71::/var:/bin/sh\n";
        std::fs::write(file.path(), text).unwrap();
        let user = |uid, gid| Some(User { uid, gid });
        assert_eq!(find(file.path(), "postgres"), user(70, 71));
        assert_eq!(find(file.path(), "70"), user(70, 71));
        assert_eq!(find(file.path(), "1000"), user(1000, 1000));
        assert_eq!(find(file.path(), "nobody"), None);
        assert_eq!(find(Path::new("/nonexistent"), "0"), user(0, 0));
    }
}
