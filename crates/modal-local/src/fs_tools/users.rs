//! Names of users and groups, from the sandbox's own `/etc/passwd` and `/etc/group`.

use std::collections::HashMap;

/// Both tables, read once per command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

/// The sandbox may have put anything there.
const LARGEST_TABLE: u64 = 4 << 20;

impl Names {
    /// What cannot be read names nobody.
    pub(super) fn read() -> Self {
        Self { users: table(&read("/etc/passwd")), groups: table(&read("/etc/group")) }
    }

    /// The user's name, or its number where it has none.
    pub(super) fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The group's name, or its number where it has none.
    pub(super) fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

fn read(path: &str) -> String {
    let regular = std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST_TABLE);
    let bytes = if regular { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Lines of `name:password:id:…`; the first of an id counts.
fn table(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut columns = line.split(':');
        if let (Some(name), Some(Ok(id))) = (columns.next(), columns.nth(1).map(str::parse)) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_tables_and_unknown_ids_are_numbers() {
        let users = table("root:x:0:0::/root:/bin/sh\ntoor:x:0:0\nbroken\na:b:c\nwww:x:33:33");
        let names = Names { users, groups: HashMap::new() };
        assert_eq!(
            [names.user(0), names.user(33), names.user(7), names.group(0)],
            ["root", "www", "7", "0"]
        );
    }
}
