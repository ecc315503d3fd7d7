//! Names of images in registries, and which of them this machine can stand in for.
//!
//! Nothing is pulled: a `FROM` names either a Debian image or a Python image on Debian, for which a
//! base made from the Debian mirror stands in, or it is refused with what there is instead.

use std::fmt;

use super::base::pythons::MachinePython;

/// A Debian release that bases can be made of, and the Python it comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Suite {
    Bookworm,
    Trixie,
}

impl Suite {
    pub(crate) const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    pub(crate) fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    fn release(self) -> &'static str {
        match self {
            Self::Bookworm => "12",
            Self::Trixie => "13",
        }
    }

    /// The version of the package `python3`, the same for the life of a release.
    /// Source: packages.debian.org/python3, read 2026-11-26.
    pub(crate) fn exact_python(self) -> &'static str {
        match self {
            Self::Bookworm => "3.11.2",
            Self::Trixie => "3.13.5",
        }
    }

    /// The series of the package `python3`. Source: packages.debian.org/python3, read 2026-11-24.
    pub(crate) fn python(self) -> &'static str {
        match self {
            Self::Bookworm => "3.11",
            Self::Trixie => "3.13",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Debian {} ({})", self.release(), self.codename())
    }
}

/// `[registry/]path[:tag][@digest]`, the registry and `library/` of the usual registry left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    path: &'a str,
    tag: &'a str,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (name, "latest"),
        };
        let path = path.strip_prefix("docker.io/").unwrap_or(path);
        Self { path: path.strip_prefix("library/").unwrap_or(path), tag, digest }
    }

    /// The version of uv that this names, if it is the image whose only content is `/uv` and `/uvx`.
    pub(crate) fn uv_version(&self) -> Option<&'a str> {
        self.path.ends_with("astral-sh/uv").then_some(self.tag)
    }
}

/// What stands in for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// The prepared Debian tree of this release, with its Python.
    Debian(Suite),
    /// The same, with a Python of this machine in `/usr/local`.
    WithPython(Suite, MachinePython),
    /// Nothing at all.
    Scratch,
}

/// A base and how it differs from what was asked for, one sentence each for the build log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) base: Base,
    pub(crate) notes: Vec<String>,
}

/// No base of this machine stands in for the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error(
        "image `{image}` needs Python {version}, and neither a Debian release nor this machine has it; \
         there is {known}: ask for one of these, such as `debian_slim(python_version=\"{}\")`, install \
         that Python with pyenv or uv, or register a substitution for `{image}`",
        Suite::Bookworm.python()
    )]
    Python { image: String, version: String, known: String },
    #[error(
        "image `{image}` is exactly Python {version}, and {owner} has {known}: ask for `python:{}` if any \
         release of that series will do, or register a substitution for `{image}`",
        series(known)
    )]
    Patch { image: String, version: String, owner: String, known: String },
    #[error(
        "image `{image}` is not available: the local server pulls nothing from registries; it has \
         `debian:bookworm`, `debian:trixie`, and `python` with {known}; build on one of them, \
         register a substitution for `{image}`, or use the `modal` target"
    )]
    Image { image: String, known: String },
}

/// Every Python that an image can have.
fn known(machine: &[MachinePython]) -> String {
    let debian = Suite::ALL.map(|suite| format!("Python {} on {suite}", suite.python()));
    let has = |python: &&MachinePython| Suite::ALL.iter().any(|it| it.python() == python.series);
    let others = machine.iter().filter(|python| !has(python));
    let others = others.map(|python| format!("this machine's {}", python.version));
    debian.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

/// The releases that the SDKs' `debian_slim` names where its caller named a series only.
/// Source: `builder/base-images.json` of Modal's Python client 1.6.4, builders 2023.12 to 2025.06.
const SDK_PYTHONS: [&str; 20] = [
    "3.9.15", "3.9.19", "3.9.20", "3.9.22", "3.10.8", "3.10.14", "3.10.15", "3.10.17", "3.11.0",
    "3.11.8", "3.11.10", "3.11.12", "3.12.1", "3.12.2", "3.12.6", "3.12.10", "3.13.0", "3.13.3",
    "3.14.2", "3.15.0",
];

/// Which base stands in for `image`, the text after `FROM`.
///
/// A Python that is named to its last number is refused unless it is the one there is. Only in a
/// `debian_slim` the releases of [`SDK_PYTHONS`] stand for their series: the SDKs write them for who
/// asked for `3.11`.
pub(crate) fn choose(
    image: &str,
    is_debian_slim: bool,
    machine: &[MachinePython],
) -> Result<Choice, Unavailable> {
    let reference = Reference::parse(image);
    let unavailable = || Unavailable::Image { image: image.to_owned(), known: known(machine) };
    let mut choice = match reference.path {
        "scratch" => return Ok(Choice { base: Base::Scratch, notes: Vec::new() }),
        "debian" => debian(reference.tag).ok_or_else(unavailable)?,
        "python" => {
            python(image, reference.tag, is_debian_slim, machine)?.ok_or_else(unavailable)?
        }
        _ => return Err(unavailable()),
    };
    if reference.digest.is_some() {
        choice.notes.push("the digest is not looked at: nothing is pulled".to_owned());
    }
    Ok(choice)
}

fn suite_named(word: &str) -> Option<Suite> {
    let release =
        |suite: &Suite| word == suite.codename() || word.split('.').next() == Some(suite.release());
    Suite::ALL.into_iter().find(release)
}

/// `bookworm`, `12-slim`, `12.11`, `stable-slim`, `bookworm-20250520-slim`, …
fn debian(tag: &str) -> Option<Choice> {
    let mut words = tag.split('-');
    let first = words.next()?;
    let is_known = |word: &str| word == "slim" || word.bytes().all(|b| b.is_ascii_digit());
    if !words.all(is_known) {
        return None;
    }
    let suite = match first {
        "latest" | "stable" => Suite::Trixie,
        "oldstable" => Suite::Bookworm,
        named => suite_named(named)?,
    };
    Some(Choice { base: Base::Debian(suite), notes: vec![stands_in(suite)] })
}

fn stands_in(suite: Suite) -> String {
    format!("a base of {suite} from this machine's mirror stands in for it")
}

/// `3.11`, `3.11.12-slim-bookworm`, `slim`, … `None` for systems that are not Debian.
fn python(
    image: &str,
    tag: &str,
    is_debian_slim: bool,
    machine: &[MachinePython],
) -> Result<Option<Choice>, Unavailable> {
    let mut version = None;
    let mut wanted = None;
    for word in tag.split('-') {
        match word {
            "slim" | "latest" => {}
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => version = Some(word),
            _ => match suite_named(word) {
                Some(suite) => wanted = Some(suite),
                None => return Ok(None),
            },
        }
    }
    let Some(version) = version.filter(|version| *version != "3") else {
        let suite = wanted.unwrap_or(Suite::Bookworm);
        return Ok(Some(Choice { base: Base::Debian(suite), notes: vec![stands_in(suite)] }));
    };
    let debian = Suite::ALL.into_iter().find(|suite| series(version) == suite.python());
    let (base, known, owner) = match debian {
        Some(suite) => (Base::Debian(suite), suite.exact_python().to_owned(), suite.to_string()),
        None => {
            let found = machine.iter().find(|python| python.series == series(version));
            let Some(python) = found.cloned() else {
                let (image, version) = (image.to_owned(), version.to_owned());
                return Err(Unavailable::Python { image, version, known: known(machine) });
            };
            let (suite, known) = (wanted.unwrap_or(Suite::Bookworm), python.version.clone());
            (Base::WithPython(suite, python), known, "this machine".to_owned())
        }
    };
    let mut notes = Vec::new();
    match &base {
        Base::Debian(suite) => {
            notes.push(stands_in(*suite));
            if wanted.is_some_and(|wanted| wanted != *suite) {
                notes.push(format!("Python {} comes with {suite} only", suite.python()));
            }
        }
        Base::WithPython(suite, _) => {
            notes.push(stands_in(*suite));
            notes.push(format!("its Python is {known}, as it is installed on this machine"));
        }
        Base::Scratch => {}
    }
    if version != series(version) && version != known {
        if !is_debian_slim || !SDK_PYTHONS.contains(&version) {
            let (image, version) = (image.to_owned(), version.to_owned());
            return Err(Unavailable::Patch { image, version, owner, known });
        }
        notes.push(format!("its Python is {owner}'s {known}, not {version}"));
    }
    Ok(Some(Choice { base, notes }))
}

/// `3.11` of `3.11.12`.
fn series(version: &str) -> &str {
    match version.match_indices('.').nth(1) {
        Some((end, _)) => &version[..end],
        None => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_for_what() {
        let images = [
            "python:3.11-slim-bookworm",
            "python:3.11.12-slim-bookworm",
            "python:3.11.2-slim-bookworm",
            "python:3.11.5-slim-bookworm",
            "python:3.11-slim-trixie",
            "docker.io/library/python:3.13",
            "python",
            "debian:bookworm-slim",
            "debian:12.11@sha256:00",
            "debian:bookworm-20250520-slim",
            "scratch",
            "python:3.12-slim-bookworm",
            "python:3.11-alpine",
            "debian:sid",
            "ubuntu:24.04",
            "nvidia/cuda:12.8.1-devel-ubuntu22.04",
            "myreg.example.com:5000/x",
        ];
        let line = |image: &&str| match choose(image, false, &[]) {
            Ok(choice) => {
                format!("{image}: {:?}\n    {}\n", choice.base, choice.notes.join("\n    "))
            }
            Err(error) => format!("{image}:\n    {error}\n"),
        };
        insta::assert_snapshot!(images.iter().map(line).collect::<String>());
    }

    #[test]
    fn debian_slim_of_a_series_works_and_of_another_release_does_not() {
        let chosen = |tag: &str| choose(&format!("python:{tag}-slim-bookworm"), true, &[]);
        for (tag, suite) in [("3.11.12", Suite::Bookworm), ("3.13.3", Suite::Trixie)] {
            let choice = chosen(tag).unwrap();
            assert_eq!(choice.base, Base::Debian(suite));
            let told = choice.notes.iter().any(|note| note.contains(suite.exact_python()));
            assert!(told, "{:?}", choice.notes);
        }
        assert!(matches!(chosen("3.11.5"), Err(Unavailable::Patch { .. })));
    }

    #[test]
    fn a_port_is_no_tag() {
        let reference = Reference::parse("myreg.example.com:5000/x");
        assert_eq!((reference.path, reference.tag), ("myreg.example.com:5000/x", "latest"));
    }

    #[test]
    fn the_image_of_uv_is_known_by_its_path() {
        assert_eq!(Reference::parse("example.com/astral-sh/uv:0.9.1").uv_version(), Some("0.9.1"));
        assert_eq!(Reference::parse("example.com/astral-sh/ruff:0.9.1").uv_version(), None);
    }
}
