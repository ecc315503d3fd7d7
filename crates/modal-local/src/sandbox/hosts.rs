//! Files that every sandbox gets, whatever its image: host names and the resolver.

use std::fmt::Write as _;

use container_network::plan;
use container_runtime::GeneratedFile;

/// What `hostname` says inside, as on Modal.
pub(crate) const HOSTNAME: &str = "modal";

/// The three files. `local_names` resolve to the sandbox's own loopback.
pub(crate) fn files<'n>(
    has_network: bool,
    local_names: impl IntoIterator<Item = &'n str>,
) -> Vec<GeneratedFile> {
    let file = |path: &str, contents: String| GeneratedFile {
        path: path.into(),
        contents: contents.into_bytes(),
        mode: 0o644,
    };
    vec![
        file("/etc/hosts", hosts(local_names)),
        file("/etc/resolv.conf", resolver(has_network)),
        file("/etc/hostname", format!("{HOSTNAME}\n")),
    ]
}

fn hosts<'n>(local_names: impl IntoIterator<Item = &'n str>) -> String {
    let mut text = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{HOSTNAME}\n"
    );
    for name in local_names {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "127.0.0.1\t{name}");
    }
    text
}

fn resolver(has_network: bool) -> String {
    if has_network {
        format!("nameserver {}\n", plan::DNS)
    } else {
        "# This sandbox has no network.\n".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_say_what_resolves_where() {
        let files = files(true, ["abc.relay.internal"]);
        let text = |path: &str| {
            let file = files.iter().find(|file| file.path.as_os_str() == path).unwrap();
            String::from_utf8(file.contents.clone()).unwrap()
        };
        assert!(text("/etc/hosts").ends_with("127.0.0.1\tmodal\n127.0.0.1\tabc.relay.internal\n"));
        assert_eq!(text("/etc/resolv.conf"), "nameserver 10.0.2.3\n");
        assert_eq!(text("/etc/hostname"), "modal\n");
    }
}
