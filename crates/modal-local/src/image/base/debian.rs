//! A Debian tree with Python, made by mmdebstrap and tidied.

use std::fs;
use std::io;
use std::path::Path;

use super::mirror::Mirror;
use super::{BaseError, command, tools};
use crate::durable;
use crate::error::Error;
use crate::image::digest::Hasher;
use crate::image::layer::{LayerId, LayerStore};
use crate::image::log::BuildLog;
use crate::image::reference::Suite;
use crate::image::settings::PackageSettings;

/// Counted up when what is done here changes the result.
const RECIPE: &str = "2";
/// Beside the packages that every Debian has: what the images of Python for Docker and the first
/// steps of the SDKs' `debian_slim` bring, headers for building C extensions included. Debian's Python
/// has no `python` and no pip of its own.
const PACKAGES: [&str; 12] = [
    "ca-certificates",
    "curl",
    "netbase",
    "tzdata",
    "gcc",
    "gfortran",
    "build-essential",
    "python3",
    "python3-dev",
    "python3-pip",
    "python3-venv",
    "python-is-python3",
];
/// Left out of this and of later packages. Manual pages are read by nobody in a sandbox.
const EXCLUDED: &str = "path-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n\
    path-exclude=/usr/share/info/*\npath-exclude=/usr/share/doc/*\n\
    path-include=/usr/share/doc/*/copyright\n";
/// apt as images want it: small, and quick because nothing survives a power cut anyway.
const APT: &str = "APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\n\
    Dir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n";

/// The layer of this release's base.
pub(super) fn layer_id(suite: Suite, mirror: &Mirror) -> LayerId {
    let mut hasher = Hasher::new("debian");
    hasher.part(RECIPE).part(suite.codename()).part(std::env::consts::ARCH);
    hasher.part(mirror.public_sources(suite.codename())).parts(PACKAGES);
    LayerId::of(&hasher)
}

/// Makes the tree and puts it into the store as `id`. Takes about a minute.
pub(super) async fn make(
    suite: Suite,
    id: &LayerId,
    mirror: &Mirror,
    settings: &PackageSettings,
    store: &LayerStore,
    tools_directory: &Path,
    log: &BuildLog,
) -> Result<(), BaseError> {
    let tools = tools::find(tools_directory, log).await?;
    let scratch = store.scratch()?;
    let tree = scratch.path().join("tree");
    durable::create_dir(&tree, 0o755)?;
    let write = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        durable::write(&path, text.as_bytes(), 0o600).map(|()| path.display().to_string())
    };
    let sources = write("sources.list", &mirror.private_sources(suite.codename()))?;
    let apt = write("apt.conf", &format!("{}{APT}", settings.apt_lines()))?;
    let temporary = scratch.path().join("tmp");
    durable::create_dir(&temporary, 0o1777)?;

    log.info(format!("making a base of {suite} from {}", mirror.shown()));
    let arguments = arguments(&tools, suite, &apt, &tree.display().to_string(), &sources);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut env: Vec<(String, String)> = settings
        .env()
        .filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    env.push(("PATH".to_owned(), tools.search.display().to_string()));
    env.push(("TMPDIR".to_owned(), temporary.display().to_string()));
    command::run("mmdebstrap", &arguments, &env, scratch.path(), log).await?;

    let (id, mirror, store) = (id.clone(), mirror.clone(), store.clone());
    let finish = move || {
        tidy(&tree, suite, &mirror)?;
        store.commit(&id, &tree)
    };
    Ok(tokio::task::spawn_blocking(finish).await.map_err(BaseError::Interrupted)??)
}

fn arguments(
    tools: &tools::Tools,
    suite: Suite,
    apt: &str,
    tree: &str,
    sources: &str,
) -> Vec<String> {
    vec![
        "perl".to_owned(),
        tools.mmdebstrap.display().to_string(),
        "--mode=root".to_owned(),
        "--variant=minbase".to_owned(),
        "--format=directory".to_owned(),
        format!("--include={}", PACKAGES.join(",")),
        format!("--keyring={}", tools.keys.display()),
        format!("--aptopt={apt}"),
        // Not `--dpkgopt`: it filters each archive through Python, which takes longer than deleting.
        "--setup-hook=mkdir -p \"$1/etc/dpkg/dpkg.cfg.d\" && \
         echo force-unsafe-io > \"$1/etc/dpkg/dpkg.cfg.d/modal-local\""
            .to_owned(),
        suite.codename().to_owned(),
        tree.to_owned(),
        sources.to_owned(),
    ]
}

/// Removes what belongs to this machine or to nobody, and writes the image's own settings.
fn tidy(tree: &Path, suite: Suite, mirror: &Mirror) -> Result<(), Error> {
    for directory in [
        "dev",
        "etc/apt/sources.list.d",
        "var/lib/apt/lists",
        "var/cache/apt",
        "var/log",
        "run",
        "tmp",
    ] {
        empty(&tree.join(directory))?;
    }
    for directory in ["man", "locale", "info"] {
        empty(&tree.join("usr/share").join(directory))?;
    }
    remove_documentation(&tree.join("usr/share/doc"))?;
    let externally_managed = format!("usr/lib/python{}/EXTERNALLY-MANAGED", suite.python());
    let files = [
        "etc/hostname",
        "etc/resolv.conf",
        "etc/machine-id",
        "etc/apt/apt.conf.d/99mmdebstrap",
        &externally_managed,
    ];
    for file in files {
        durable::remove_file(&tree.join(file))?;
    }
    let written = [
        ("etc/apt/sources.list", mirror.public_sources(suite.codename())),
        ("etc/apt/apt.conf.d/90modal-local", APT.to_owned()),
        ("etc/dpkg/dpkg.cfg.d/modal-local", format!("force-unsafe-io\n{EXCLUDED}")),
        // They exist so that a container's own can be shown in their place.
        ("etc/hostname", String::new()),
        ("etc/hosts", "127.0.0.1 localhost\n".to_owned()),
        ("etc/resolv.conf", String::new()),
    ];
    for (path, text) in written {
        let path = tree.join(path);
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    durable::create_dir(&tree.join("var/cache/apt/archives/partial"), 0o755)
}

fn empty(directory: &Path) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(Error::file("read", directory))?.path();
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::file("remove", &path))?;
    }
    Ok(())
}

/// Leaves the licences, as Debian's own images do.
fn remove_documentation(directory: &Path) -> Result<(), Error> {
    for entry in walkdir::WalkDir::new(directory).contents_first(true).into_iter().flatten() {
        if entry.file_name() == "copyright" || entry.depth() == 0 {
            continue;
        }
        let path = entry.path();
        let removed =
            if entry.file_type().is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                return Err(Error::file("remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
