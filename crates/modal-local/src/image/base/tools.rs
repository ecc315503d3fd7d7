//! `mmdebstrap` and the archive's keys: the machine's own, or fetched without changing the machine.

use std::path::{Path, PathBuf};

use super::{BaseError, command};
use crate::durable;
use crate::image::log::BuildLog;

const PROGRAM: &str = "/usr/bin/mmdebstrap";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the tools are.
pub(super) struct Tools {
    /// The program.
    pub(super) mmdebstrap: PathBuf,
    /// Where its helpers are looked for.
    pub(super) search: PathBuf,
    /// The keys that sign Debian's archive.
    pub(super) keys: PathBuf,
}

/// Finds the tools; fetches with apt into `directory` what the machine lacks.
pub(super) async fn find(directory: &Path, log: &BuildLog) -> Result<Tools, BaseError> {
    for program in ["perl", "apt-get", "dpkg-deb", "setpriv", "unshare"] {
        if !is_installed(program) {
            return Err(BaseError::Missing { program });
        }
    }
    let own = |path: &str| directory.join(path.trim_start_matches('/'));
    for (package, path) in [("mmdebstrap", PROGRAM), ("debian-archive-keyring", KEYS)] {
        if !Path::new(path).exists() && !own(path).exists() {
            log.info(format!("fetching `{package}`, which this machine does not have installed"));
            fetch(package, directory, log).await?;
        }
    }
    let either = |path: &str| match Path::new(path).exists() {
        true => PathBuf::from(path),
        false => own(path),
    };
    Ok(Tools { mmdebstrap: either(PROGRAM), search: own("/usr/bin"), keys: either(KEYS) })
}

fn is_installed(program: &str) -> bool {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    directories.iter().any(|directory| Path::new(directory).join(program).exists())
}

/// Downloads one package and unpacks it into `directory`; lists and cache are private, too.
async fn fetch(package: &str, directory: &Path, log: &BuildLog) -> Result<(), BaseError> {
    const WHAT: &str = "fetching mmdebstrap";
    let apt = directory.join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        durable::create_dir(&apt.join(part), 0o700)?;
    }
    let options = [
        format!("Dir::State::Lists={}/lists", apt.display()),
        format!("Dir::Cache={}/cache", apt.display()),
        "APT::Sandbox::User=root".to_owned(),
        "APT::Update::Post-Invoke-Success=".to_owned(),
        "Acquire::Languages=none".to_owned(),
    ];
    let with_options = |verb: &'static [&'static str]| -> Vec<&str> {
        let options = options.iter().flat_map(|option| ["-o", option.as_str()]);
        ["apt-get", "-q"].into_iter().chain(options).chain(verb.iter().copied()).collect()
    };
    command::run(WHAT, &with_options(&["update"]), &[], &apt, log).await?;
    let mut download = with_options(&["download"]);
    download.push(package);
    command::run(WHAT, &download, &[], &apt, log).await?;
    let archive = downloaded(&apt, package)?;
    let archive = archive.display().to_string();
    let target = directory.display().to_string();
    command::run(WHAT, &["dpkg-deb", "-x", &archive, &target], &[], &apt, log).await
}

fn downloaded(directory: &Path, package: &str) -> Result<PathBuf, BaseError> {
    let prefix = format!("{package}_");
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut archives = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&prefix) && name.ends_with(".deb")
    });
    archives.next().map(|entry| entry.path()).ok_or(BaseError::Missing { program: "mmdebstrap" })
}
