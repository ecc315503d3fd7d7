//! Pythons of this machine, for images that ask for a series that no Debian release here has, and for `add_python`.
//!
//! Modal has images of every Python, and standalone Pythons in mounts. Nothing is pulled here; but a Python that was
//! installed into a directory of its own (by pyenv, by uv, below `/usr/local` or `/opt`) works in any Debian once it is
//! copied to `/usr/local`, since it finds its library relative to itself. What was installed into it stays behind.

use std::fs;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::error::{Error, Result};
use crate::image::digest::Hasher;
use crate::image::layer::{LayerId, LayerStore};

/// Counted up when what is done here changes the result.
const RECIPE: &str = "1";
/// Directories that hold one installed Python each.
const COLLECTIONS: [&str; 4] =
    [".pyenv/versions", ".local/share/uv/python", "/opt/python", "/opt/hostedtoolcache/Python"];
/// Directories that are one.
const PREFIXES: [&str; 1] = ["/usr/local"];
/// Parts of the library that only tests of Python itself and programs with windows need.
const LEFT_OUT: [&str; 7] =
    ["test", "idlelib", "tkinter", "turtledemo", "lib2to3", "site-packages", "__pycache__"];
/// What of the installed packages belongs to a new Python.
const KEPT: [&str; 6] =
    ["pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence"];

/// A Python in a directory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachinePython {
    prefix: PathBuf,
    /// Such as `3.12`.
    pub(crate) series: String,
    /// Such as `3.12.1`.
    pub(crate) version: String,
}

/// One file of a Python, as it lies below a prefix.
pub(crate) struct PythonFile {
    /// Such as `bin/python3.12`.
    pub(crate) path: String,
    pub(crate) contents: Vec<u8>,
    pub(crate) mode: u32,
}

/// The Pythons of this machine, the newest of each series.
pub(crate) fn installed(home: Option<&Path>) -> Vec<MachinePython> {
    let directories = COLLECTIONS.iter().filter_map(|path| match path.starts_with('/') {
        true => Some(PathBuf::from(path)),
        false => home.map(|home| home.join(path)),
    });
    let collected = directories.flat_map(|directory| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        // Tool caches have one more level, the processor.
        entries.flat_map(|entry| [entry.path(), entry.path().join("x64")])
    });
    let prefixes = collected.chain(PREFIXES.iter().map(PathBuf::from));
    let mut found: Vec<MachinePython> = prefixes.flat_map(|prefix| of_prefix(&prefix)).collect();
    found.sort_by_key(|python| std::cmp::Reverse(numbers(&python.version)));
    found.dedup_by(|older, newer| older.series == newer.series);
    found
}

/// The Pythons below one directory.
fn of_prefix(prefix: &Path) -> Vec<MachinePython> {
    let headers = fs::read_dir(prefix.join("include")).into_iter().flatten().flatten();
    let python = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let series = name.strip_prefix("python")?.to_owned();
        let text = fs::read_to_string(entry.path().join("patchlevel.h")).ok()?;
        let line = text.lines().find(|line| line.contains("define PY_VERSION "))?;
        let version = line.split('"').nth(1)?.to_owned();
        let python = MachinePython { prefix: prefix.to_owned(), series, version };
        let is_whole = python.binary().is_file() && python.library().join("os.py").is_file();
        is_whole.then_some(python)
    };
    headers.filter_map(python).collect()
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

impl MachinePython {
    fn binary(&self) -> PathBuf {
        self.prefix.join(format!("bin/python{}", self.series))
    }

    fn library(&self) -> PathBuf {
        self.prefix.join(format!("lib/python{}", self.series))
    }

    /// The layer that has it in `/usr/local`.
    pub(crate) fn layer_id(&self, below: &LayerId) -> LayerId {
        below.child("machine python", |hasher: &mut Hasher| {
            hasher
                .part(RECIPE)
                .part(&self.version)
                .part(self.prefix.as_os_str().as_encoded_bytes());
        })
    }

    /// Puts the layer together. Blocks; takes seconds.
    pub(crate) fn make(&self, id: &LayerId, store: &LayerStore) -> Result<()> {
        let scratch = store.scratch()?;
        let tree = scratch.path().join("tree");
        for file in self.files()? {
            let path = tree.join("usr/local").join(&file.path);
            let parent = path.parent().unwrap_or(&tree);
            fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
            fs::write(&path, &file.contents).map_err(Error::file("write", &path))?;
            let mode = fs::Permissions::from_mode(file.mode);
            fs::set_permissions(&path, mode).map_err(Error::file("set the mode of", &path))?;
        }
        for name in ["python3", "python"] {
            let link = tree.join("usr/local/bin").join(name);
            symlink(format!("python{}", self.series), &link).map_err(Error::file("link", &link))?;
        }
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))
            .map_err(Error::file("set the mode of", &tree))?;
        store.commit(id, &tree)
    }

    /// Its files, without links.
    pub(crate) fn files(&self) -> Result<Vec<PythonFile>> {
        let mut files = Files { prefix: self.prefix.clone(), found: Vec::new() };
        let (series, library) = (&self.series, format!("lib/python{}", self.series));
        files.add(&format!("bin/python{series}"))?;
        files.tree(&format!("include/python{series}"), |_| true)?;
        files.tree(&library, |entry| {
            let is_left_out = LEFT_OUT.iter().any(|name| entry.file_name() == *name);
            !(entry.file_type().is_dir() && is_left_out)
        })?;
        files.packages(&format!("{library}/site-packages"))?;
        for entry in fs::read_dir(self.prefix.join("lib")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&format!("libpython{series}.so")) {
                files.add(&format!("lib/{name}"))?;
            }
        }
        let own = self.prefix.join("lib").display().to_string();
        for file in files.found.iter_mut().filter(|file| is_program(file)) {
            relocate(&mut file.contents, own.as_bytes());
        }
        files.found.extend(scripts(series));
        Ok(files.found)
    }
}

/// The Python of a Debian tree in the same form, for images on that Debian.
pub(crate) fn of_debian(root: &Path, series: &str) -> Result<Vec<PythonFile>> {
    let mut files = Files { prefix: root.join("usr"), found: Vec::new() };
    files.add(&format!("bin/python{series}"))?;
    for directory in [format!("include/python{series}"), format!("lib/python{series}")] {
        files.tree(&directory, |entry| entry.file_name() != "__pycache__")?;
    }
    files.packages("lib/python3/dist-packages")?;
    files.found.extend(scripts(series));
    Ok(files.found)
}

/// Gathers files below a prefix.
struct Files {
    prefix: PathBuf,
    found: Vec<PythonFile>,
}

impl Files {
    fn add(&mut self, inside: &str) -> Result<()> {
        let path = self.prefix.join(inside);
        let contents = fs::read(&path).map_err(Error::file("read", &path))?;
        let mode = fs::metadata(&path).map_err(Error::file("read", &path))?.permissions().mode();
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        self.found.push(PythonFile { path: inside.to_owned(), contents, mode });
        Ok(())
    }

    fn tree(&mut self, directory: &str, wanted: impl Fn(&DirEntry) -> bool) -> Result<()> {
        let top = self.prefix.join(directory);
        let walk = WalkDir::new(&top).into_iter().filter_entry(|entry| wanted(entry));
        for entry in walk {
            let entry = entry.map_err(|error| Error::file("read", &top)(error.into()))?;
            let path = entry.path();
            // A static library, of no use to anybody here, is a third of it all.
            let is_archive = path.extension().is_some_and(|it| it == "a");
            if !fs::metadata(path).is_ok_and(|found| found.is_file()) || is_archive {
                continue;
            }
            if let Some(inside) = path.strip_prefix(&self.prefix).ok().and_then(Path::to_str) {
                let inside = inside.to_owned();
                self.add(&inside)?;
            }
        }
        Ok(())
    }

    /// pip and what it needs, of all that is installed.
    fn packages(&mut self, from: &str) -> Result<()> {
        for entry in fs::read_dir(self.prefix.join(from)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let package = name.split(['-', '.']).next().unwrap_or_default();
            if KEPT.contains(&package)
                || KEPT.iter().any(|kept| name.starts_with(&format!("{kept}-")))
            {
                self.tree(&format!("{from}/{name}"), |entry| entry.file_name() != "__pycache__")?;
            }
        }
        Ok(())
    }
}

fn is_program(file: &PythonFile) -> bool {
    file.contents.starts_with(b"\x7fELF")
}

/// Programs name the directory of their library in full; what they name must be found beside them.
fn relocate(program: &mut [u8], own: &[u8]) {
    const BESIDE: &[u8] = b"$ORIGIN/../lib";
    let Some(at) = program.windows(own.len() + 1).position(|it| it == [own, b"\0"].concat()) else {
        return;
    };
    if BESIDE.len() <= own.len() {
        program[at..at + own.len()].fill(0);
        program[at..at + BESIDE.len()].copy_from_slice(BESIDE);
    }
}

/// `pip`, as a program.
fn scripts(series: &str) -> Vec<PythonFile> {
    let text = format!(
        "#!/usr/local/bin/python{series}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
    );
    let script = |name: String| PythonFile {
        path: format!("bin/{name}"),
        contents: text.clone().into_bytes(),
        mode: 0o755,
    };
    ["pip".to_owned(), "pip3".to_owned(), format!("pip{series}")].map(script).into()
}

/// Where the owner of this process has what only he installed.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::home_dir()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn install(prefix: &Path, version: &str) -> io::Result<()> {
        let series = version.rsplit_once('.').map_or(version, |(series, _)| series);
        let include = prefix.join(format!("include/python{series}"));
        fs::create_dir_all(&include)?;
        fs::write(include.join("patchlevel.h"), format!("#define PY_VERSION \"{version}\"\n"))?;
        fs::create_dir_all(prefix.join(format!("lib/python{series}/site-packages/pip")))?;
        fs::create_dir_all(prefix.join(format!("lib/python{series}/site-packages/numpy")))?;
        fs::write(prefix.join(format!("lib/python{series}/os.py")), "")?;
        fs::write(prefix.join(format!("lib/python{series}/site-packages/pip/a.py")), "")?;
        fs::write(prefix.join(format!("lib/python{series}/site-packages/numpy/a.py")), "")?;
        fs::create_dir_all(prefix.join("bin"))?;
        fs::write(prefix.join(format!("bin/python{series}")), "")
    }

    #[test]
    fn the_newest_of_each_series_is_found_and_nothing_installed_into_it_is_taken() {
        let home = tempfile::tempdir().unwrap();
        for version in ["3.12.1", "3.12.11", "3.9.2"] {
            install(&home.path().join(".pyenv/versions").join(version), version).unwrap();
        }
        let found: Vec<_> = installed(Some(home.path()))
            .into_iter()
            .filter(|python| python.prefix.starts_with(home.path()))
            .collect();
        let versions: Vec<&str> = found.iter().map(|it| it.version.as_str()).collect();
        assert_eq!(versions, ["3.12.11", "3.9.2"]);
        let paths: Vec<String> = found[0].files().unwrap().into_iter().map(|it| it.path).collect();
        assert!(paths.contains(&"lib/python3.12/site-packages/pip/a.py".to_owned()), "{paths:?}");
        assert!(!paths.iter().any(|path| path.contains("numpy")), "{paths:?}");
    }

    #[test]
    fn a_program_looks_for_its_library_beside_it() {
        let mut program = b"\x7fELF..\0/root/.pyenv/versions/3.12.1/lib\0end".to_vec();
        let length = program.len();
        relocate(&mut program, b"/root/.pyenv/versions/3.12.1/lib");
        assert_eq!(program.len(), length);
        assert!(program.windows(15).any(|it| it == b"$ORIGIN/../lib\0"));
        assert!(program.ends_with(b"\0end"));
    }
}
