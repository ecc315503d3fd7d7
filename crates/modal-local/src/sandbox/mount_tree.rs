//! The files of a mount, laid over an image.
//!
//! A mount's directory becomes a layer above the image's. In an overlay the topmost layer says what a
//! directory is: a file for `/tmp/x` would make `/tmp` an ordinary directory, and one for `/bin/x`
//! would hide an image's link from `/bin` to `/usr/bin`. Where that would happen, a layer is made
//! whose directories are those of the image, with the same files as hard links.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use walkdir::WalkDir;

use crate::blocking;
use crate::error::{Error, Result};
use crate::ids::random_suffix;

/// What directories of a mount are: root's, for all to read.
const PLAIN: (u32, u32, u32) = (0o755, 0, 0);
/// Links in one path, at most; what Linux allows.
const MAX_LINKS: usize = 40;

/// The layers of an image and above them, in order, the files of the mounts. What does not fit as it is
/// gets laid out in `scratch`.
pub(crate) async fn overlaid(
    image: Vec<PathBuf>,
    trees: Vec<PathBuf>,
    scratch: PathBuf,
) -> Result<Vec<PathBuf>> {
    if trees.is_empty() {
        return Ok(image);
    }
    blocking::run(move || {
        let mut layers = image;
        for tree in distinct(trees) {
            let layer = fit(&tree, &layers, &scratch)?;
            layers.push(layer);
        }
        Ok(layers)
    })
    .await
}

/// The trees without those that come again later: an overlay refuses a directory that is two of its
/// layers, and the upper of the two would hide the lower.
fn distinct(trees: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut kept: Vec<PathBuf> =
        trees.into_iter().rev().filter(|tree| seen.insert(tree.clone())).collect();
    kept.reverse();
    kept
}

/// A layer with the files of `tree` that fits above `layers` (lowest first): `tree` itself if
/// possible, else a new directory in `scratch`.
fn fit(tree: &Path, layers: &[PathBuf], scratch: &Path) -> Result<PathBuf> {
    let image = Layers(layers);
    let fits = directories(tree)?.iter().all(|dir| match image.look_up(dir) {
        Found::Nothing => true,
        Found::Directory(stat) => attributes(&stat) == PLAIN,
        Found::Link(_) => false,
    });
    if fits {
        return Ok(tree.to_owned());
    }
    let target = scratch.join(random_suffix());
    fs::create_dir_all(&target).map_err(Error::file("create", &target))?;
    for file in entries(tree, |kind| !kind.is_dir())? {
        let place = image.resolve_parent(&file)?;
        copy_file(&tree.join(&file), &target, &place, &image)
            .map_err(Error::file("lay out", tree.join(&file)))?;
    }
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))
        .map_err(Error::file("set the mode of", &target))?;
    Ok(target)
}

fn directories(tree: &Path) -> Result<Vec<PathBuf>> {
    entries(tree, |kind| kind.is_dir())
}

/// Paths below `tree`, relative to it.
fn entries(tree: &Path, wanted: impl Fn(fs::FileType) -> bool) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in WalkDir::new(tree).min_depth(1) {
        let entry = entry.map_err(|error| Error::file("read", tree)(error.into()))?;
        if wanted(entry.file_type())
            && let Ok(path) = entry.path().strip_prefix(tree)
        {
            paths.push(path.to_owned());
        }
    }
    Ok(paths)
}

/// Puts a file into its place; directories on the way are like the image's.
fn copy_file(source: &Path, target: &Path, place: &Path, image: &Layers<'_>) -> io::Result<()> {
    let mut inside = PathBuf::new();
    for name in place.parent().into_iter().flat_map(Path::components) {
        inside.push(name);
        let directory = target.join(&inside);
        match fs::create_dir(&directory) {
            Ok(()) => imitate(&directory, &image.look_up(&inside))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let place = target.join(place);
    fs::hard_link(source, &place).or_else(|_| fs::copy(source, &place).map(drop))
}

fn imitate(directory: &Path, found: &Found) -> io::Result<()> {
    let (mode, uid, gid) = match found {
        Found::Directory(stat) => attributes(stat),
        Found::Nothing | Found::Link(_) => PLAIN,
    };
    let made = fs::symlink_metadata(directory)?;
    if (made.uid(), made.gid()) != (uid, gid) {
        match chown(directory, Some(uid), Some(gid)) {
            // Without root there are no other users inside either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            changed => changed?,
        }
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(mode))
}

fn attributes(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

/// What an image has at a path.
enum Found {
    /// Nothing, or something that is no directory.
    Nothing,
    Directory(Stat),
    Link(PathBuf),
}

/// The layers of an image, lowest first.
struct Layers<'l>(&'l [PathBuf]);

impl Layers<'_> {
    /// What the topmost layer that knows `path` has there. `path` itself may be a link; links on the
    /// way to it are not followed, so that no layer leads out of itself.
    fn look_up(&self, path: &Path) -> Found {
        let found = self.0.iter().rev().find_map(|layer| look_up_in(layer, path));
        found.unwrap_or(Found::Nothing)
    }

    /// Where a file of this path lies once the links of the image are followed; the last name is
    /// taken as it is.
    fn resolve_parent(&self, file: &Path) -> Result<PathBuf> {
        let mut pending: Vec<PathBuf> = file.iter().rev().map(PathBuf::from).collect();
        let (mut resolved, mut links) = (PathBuf::new(), 0);
        while let Some(name) = pending.pop() {
            if pending.is_empty() {
                return Ok(resolved.join(name));
            }
            let next = resolved.join(&name);
            let Found::Link(target) = self.look_up(&next) else {
                resolved = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                let file = file.display();
                return Err(Error::invalid(format!(
                    "mount path `/{file}` runs in a circle of links"
                )));
            }
            if target.is_absolute() {
                resolved = PathBuf::new();
            }
            for part in target.components().collect::<Vec<_>>().into_iter().rev() {
                if let Component::Normal(_) | Component::ParentDir = part {
                    pending.push(PathBuf::from(part.as_os_str()));
                }
            }
            while pending.last().is_some_and(|name| name.as_os_str() == "..") {
                pending.pop();
                resolved.pop();
            }
        }
        Ok(resolved)
    }
}

/// `None` where the layer says nothing about the path.
fn look_up_in(layer: &Path, path: &Path) -> Option<Found> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root =
        rustix::fs::openat(CWD, layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), confined).ok()?;
    let stat = rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH).ok()?;
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Directory(stat),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&file, "", Vec::new()).ok()?;
            Found::Link(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
        }
        // Also an overlay's mark for "deleted".
        _ => Found::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Case {
        dir: tempfile::TempDir,
    }

    impl Case {
        fn new(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                let path = dir.path().join("tree").join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            fs::create_dir_all(dir.path().join("image")).unwrap();
            Self { dir }
        }

        fn image(&self, path: &str) -> PathBuf {
            self.dir.path().join("image").join(path)
        }

        fn fit(&self) -> PathBuf {
            let scratch = self.dir.path().join("scratch");
            fit(&self.dir.path().join("tree"), &[self.image("")], &scratch).unwrap()
        }
    }

    #[test]
    fn of_a_tree_that_comes_twice_the_upper_one_stays() {
        let trees = ["a", "b", "a", "c"].map(PathBuf::from).to_vec();
        assert_eq!(distinct(trees), ["b", "a", "c"].map(PathBuf::from));
    }

    #[test]
    fn a_mount_at_a_new_place_is_used_as_it_is() {
        let case = Case::new(&["opt/goat-eval"]);
        fs::create_dir(case.image("opt")).unwrap();
        assert_eq!(case.fit(), case.dir.path().join("tree"));
    }

    #[test]
    fn directories_stay_as_the_image_has_them() {
        let case = Case::new(&["tmp/x", "tmp/new/y"]);
        fs::create_dir(case.image("tmp")).unwrap();
        fs::set_permissions(case.image("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        let layer = case.fit();
        let mode = |path: &str| layer.join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("tmp"), mode("tmp/new")), (0o1777, 0o755));
        assert_eq!(fs::read_to_string(layer.join("tmp/new/y")).unwrap(), "tmp/new/y");
    }

    #[test]
    fn links_of_the_image_lead_to_their_place_inside() {
        let case = Case::new(&["bin/tool", "a/b/c/file", "loose"]);
        fs::create_dir_all(case.image("usr/bin")).unwrap();
        fs::create_dir_all(case.image("data/deep")).unwrap();
        symlink("usr/bin", case.image("bin")).unwrap();
        symlink("/../../data/deep", case.image("a")).unwrap();
        let layer = case.fit();
        assert_eq!(fs::read_to_string(layer.join("usr/bin/tool")).unwrap(), "bin/tool");
        assert_eq!(fs::read_to_string(layer.join("data/deep/b/c/file")).unwrap(), "a/b/c/file");
        assert_eq!(fs::read_to_string(layer.join("loose")).unwrap(), "loose");
        assert!(!layer.join("bin").exists());
    }

    #[test]
    fn a_circle_of_links_is_an_error() {
        let case = Case::new(&["a/file"]);
        symlink("b", case.image("a")).unwrap();
        symlink("a", case.image("b")).unwrap();
        let tree = case.dir.path().join("tree");
        let error = fit(&tree, &[case.image("")], &case.dir.path().join("s")).unwrap_err();
        assert!(error.to_string().contains("circle"));
    }
}
