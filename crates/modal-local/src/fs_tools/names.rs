//! `SetNames`: the names that the server keeps in `/etc/hosts`, beside whatever else is there.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::failure::Failure;
use super::read::require_regular;

/// Ends every line that is the server's.
const MARK: &str = "# container of this sandbox";
/// No such file is longer.
const MAX_LENGTH: u64 = 1 << 20;

/// Replaces the server's lines, and leaves all others as they are.
pub(super) fn set(path: &Path, names: &[(Ipv4Addr, String)]) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    // Written where it is: the file may be mounted over its place.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    require_regular(&file.metadata()?)?;
    let mut text = Vec::new();
    (&mut file).take(MAX_LENGTH).read_to_end(&mut text)?;
    let new = edit(&String::from_utf8_lossy(&text), names);
    file.seek(io::SeekFrom::Start(0))?;
    file.write_all(new.as_bytes())?;
    file.set_len(new.len() as u64)?;
    Ok(())
}

fn edit(text: &str, names: &[(Ipv4Addr, String)]) -> String {
    let others = text.lines().filter(|line| !line.ends_with(MARK)).map(str::to_owned);
    let own = names.iter().map(|(address, name)| format!("{address}\t{name}\t{MARK}"));
    others.chain(own).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_lines_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/hosts");
        let name = |last, name: &str| (Ipv4Addr::new(10, 0, 3, last), name.to_owned());
        set(&path, &[name(1, "main"), name(2, "web")]).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.insert_str(0, "127.0.0.1\tlocalhost\n");
        text.push_str("192.0.2.1 mine # own");
        fs::write(&path, text).unwrap();
        set(&path, &[name(1, "main")]).unwrap();
        insta::assert_snapshot!(fs::read_to_string(&path).unwrap(), @r"
        127.0.0.1	localhost
        192.0.2.1 mine # own
        10.0.3.1	main	# container of this sandbox
        ");
    }
}
