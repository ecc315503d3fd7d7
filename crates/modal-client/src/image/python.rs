//! Which Python an image gets, by version of Modal's image builder.
//!
//! Source: `builder/base-images.json` and `mount.py` of Modal's Python client 1.6.4.

/// The versions of the image builder that this client can describe layers for, oldest first.
pub(super) const BUILDER_VERSIONS: [&str; 3] = ["2025.06", "2026.10", "PREVIEW"];

/// The Python of `debian_slim` where none is named.
pub(super) const DEFAULT_PYTHON: &str = "3.11";

/// The full versions that builder 2025.06 means by a series.
const MICRO_2025_06: [&str; 7] =
    ["3.9.22", "3.10.17", "3.11.12", "3.12.10", "3.13.3", "3.14.2", "3.15.0"];

/// The builds of Python that Modal provides as mounts: series, release, full version.
const STANDALONE_2025_06: [(&str, &str, &str); 8] = [
    ("3.10", "20230826", "3.10.13"),
    ("3.11", "20230826", "3.11.5"),
    ("3.12", "20240107", "3.12.1"),
    ("3.13", "20241008", "3.13.0"),
    ("3.14", "20251205", "3.14.2"),
    ("3.14t", "20251209", "3.14.2t"),
    ("3.15", "20261009", "3.15.0"),
    ("3.15t", "20261009", "3.15.0t"),
];
const STANDALONE_2026_10: [(&str, &str, &str); 7] = [
    ("3.11", "20261021", "3.11.17"),
    ("3.12", "20261021", "3.12.15"),
    ("3.13", "20261021", "3.13.17"),
    ("3.14", "20261021", "3.14.9"),
    ("3.14t", "20261021", "3.14.9t"),
    ("3.15", "20261021", "3.15.1"),
    ("3.15t", "20261021", "3.15.1t"),
];

/// A build of Python that Modal provides as a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standalone {
    pub(super) mount: String,
    /// Early releases have no `python`, only `python3`.
    pub(super) needs_link: bool,
}

/// Checks that this client knows the builder's version.
pub(super) fn check_builder(version: &str) -> Result<(), String> {
    if BUILDER_VERSIONS.contains(&version) {
        return Ok(());
    }
    Err(format!(
        "image builder `{version}` is not supported; choose one of {} in the environment's settings or with `MODAL_IMAGE_BUILDER_VERSION`",
        BUILDER_VERSIONS.join(", ")
    ))
}

/// The tag of the `python` image that `debian_slim` starts from.
pub(super) fn debian_tag(builder: &str, python: Option<&str>) -> Result<String, String> {
    let wanted = python.unwrap_or(DEFAULT_PYTHON);
    let series = series_of(wanted, builder)?;
    if builder > "2025.06" {
        return Ok(format!("python:{wanted}-slim-trixie"));
    }
    let is_series = series == wanted;
    let prefix = format!("{series}.");
    let full = MICRO_2025_06.iter().find(|version| is_series && version.starts_with(&prefix));
    Ok(format!("python:{}-slim-bookworm", full.unwrap_or(&wanted)))
}

/// The mount with a build of this Python series.
pub(super) fn standalone(builder: &str, series: &str) -> Result<Standalone, String> {
    let builds: &[_] = if builder > "2025.06" { &STANDALONE_2026_10 } else { &STANDALONE_2025_06 };
    let found = builds.iter().find(|(known, ..)| *known == series);
    let Some((_, release, version)) = found else {
        let known: Vec<_> = builds.iter().map(|(known, ..)| *known).collect();
        return Err(format!(
            "there is no Python `{series}` to add; there are {}",
            known.join(", ")
        ));
    };
    Ok(Standalone {
        mount: format!("python-build-standalone.{release}.{version}-gnu"),
        needs_link: *release < "20241008",
    })
}

/// The series of a version: `3.11` of `3.11.4`.
fn series_of(version: &str, builder: &str) -> Result<String, String> {
    let parts: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| {
        !part.is_empty() && part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit())
    };
    let is_version =
        matches!(parts.len(), 2 | 3) && parts[0] == "3" && parts[1..].iter().all(is_number);
    let oldest = if builder > "2025.06" { 11 } else { 10 };
    let minor = parts.get(1).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    if is_version && (oldest..=15).contains(&minor) {
        return Ok(format!("3.{minor}"));
    }
    Err(format!(
        "Python `{version}` is not supported by image builder `{builder}`; choose one from 3.{oldest} to 3.15"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_follows_the_builder() {
        assert_eq!(debian_tag("PREVIEW", Some("3.12")).unwrap(), "python:3.12-slim-trixie");
        assert_eq!(debian_tag("2026.10", None).unwrap(), "python:3.11-slim-trixie");
        assert_eq!(debian_tag("2025.06", Some("3.12")).unwrap(), "python:3.12.10-slim-bookworm");
        assert_eq!(debian_tag("2025.06", Some("3.12.4")).unwrap(), "python:3.12.4-slim-bookworm");
    }

    #[test]
    fn a_python_that_is_not_to_be_had_is_named() {
        for version in ["3.10", "2.7", "3", "3.12.x", "latest"] {
            let error = debian_tag("2026.10", Some(version)).unwrap_err();
            assert!(error.contains(&format!("`{version}`")), "{error}");
        }
        assert!(standalone("2026.10", "3.10").unwrap_err().contains("3.11, 3.12"));
        assert!(check_builder("2024.10").is_err() && check_builder("PREVIEW").is_ok());
    }
}
