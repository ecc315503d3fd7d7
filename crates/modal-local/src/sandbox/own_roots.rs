//! Certificate authorities that only this machine trusts, shown to sandboxes and to containers of functions.
//!
//! Where a machine's way out passes a proxy with an authority of its own, as in many companies, nothing inside could check
//! a certificate, and `pip install` in a sandbox would fail. So the machine's bundle of certificates is shown
//! in a layer of its own above the image's, and named by the variables that build steps have, too, of which any that the
//! image, the definition or a secret sets wins. Nothing else of the machine's settings is: an index's address may
//! hold a password.
//!
//! A layer, since of a mount the container could read where on this machine it lies.
//!
//! On a machine that trusts what its distribution does, and on one where that can't be told, nothing is shown.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use crate::error::{Error, Result};
use crate::image::{CERTIFICATE_VARIABLES, INSIDE, SYSTEM_CERTIFICATES};

/// Where Debian's package keeps each authority that the distribution trusts.
const DISTRIBUTED: &str = "/usr/share/ca-certificates";
const FILE: &str = "ca-certificates.crt";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The layer with the bundle to show, if this machine has authorities of its own.
pub(crate) struct OwnRoots {
    layer: Option<PathBuf>,
}

impl OwnRoots {
    /// Looks at this machine, and keeps a copy of its bundle in the layer `layer` if that is to be shown.
    ///
    /// # Errors
    ///
    /// Where the copy can't be written.
    pub(crate) fn open(layer: PathBuf) -> Result<Self> {
        Self::of(Path::new("/"), layer)
    }

    fn of(root: &Path, layer: PathBuf) -> Result<Self> {
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        let read = |path: &&str| std::fs::read_to_string(at(path)).ok();
        let bundle = SYSTEM_CERTIFICATES.iter().find_map(read);
        let Some(bundle) = bundle.filter(|bundle| has_others(bundle, &at(DISTRIBUTED))) else {
            return Ok(Self { layer: None });
        };
        let directory = layer.join(INSIDE.trim_start_matches('/'));
        std::fs::create_dir_all(&directory).map_err(Error::file("create", &directory))?;
        let path = directory.join(FILE);
        std::fs::write(&path, bundle).map_err(Error::file("write", &path))?;
        for shown in directory.ancestors().take_while(|it| it.starts_with(&layer)) {
            set_mode(shown, 0o755)?;
        }
        set_mode(&path, 0o644)?;
        Ok(Self { layer: Some(layer) })
    }

    /// Adds the variables that name the bundle to a container's.
    pub(crate) fn name(&self, env: &mut Environment) {
        if self.layer.is_some() {
            for name in CERTIFICATE_VARIABLES {
                env.put(name, &format!("{INSIDE}/{FILE}"));
            }
        }
    }

    /// The layer to put above all others of a container. No record of what it is made of names it, so that it is in no
    /// snapshot.
    pub(crate) fn layer(&self) -> Option<PathBuf> {
        self.layer.clone()
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).map_err(Error::file("set the mode of", path))
}

/// Whether a bundle has a certificate that no file below `distributed` has. If there is none at all, nobody can say.
fn has_others(bundle: &str, distributed: &Path) -> bool {
    let files = walkdir::WalkDir::new(distributed).into_iter().filter_map(Result::ok);
    let texts: Vec<String> =
        files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
    let known: HashSet<String> = texts.iter().flat_map(|text| certificates(text)).collect();
    !known.is_empty() && certificates(bundle).any(|certificate| !known.contains(&certificate))
}

/// The certificates of a file, without the line breaks in them.
fn certificates(text: &str) -> impl Iterator<Item = String> {
    let begun = text.split(BEGIN).skip(1);
    begun.filter_map(|rest| Some(rest.split_once(END)?.0.split_whitespace().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(body: &str) -> String {
        format!("{BEGIN}\n{body}\n{END}\n")
    }

    /// A machine whose bundle has these; the distribution's are `AA` and `BB`. What is shown, and under what name.
    fn shown(bundle: &[&str], distributed: &[&str]) -> (Option<String>, Environment) {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, text: String| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        file("etc/ssl/certs/ca-certificates.crt", bundle.iter().map(|it| pem(it)).collect());
        for name in distributed {
            file(&format!("usr/share/ca-certificates/mozilla/{name}.crt"), pem(name));
        }
        let roots = OwnRoots::of(root.path(), root.path().join("state/own-roots")).unwrap();
        let mut env = Environment::default();
        roots.name(&mut env);
        let file = |layer: PathBuf| layer.join("run/modal-build/ca-certificates.crt");
        (roots.layer().map(|layer| std::fs::read_to_string(file(layer)).unwrap()), env)
    }

    #[test]
    fn a_bundle_is_shown_where_the_machine_trusts_more_than_its_distribution_does() {
        let (bundle, env) = shown(&["AA", "OWN"], &["AA", "BB"]);
        assert_eq!(bundle.unwrap(), pem("AA") + &pem("OWN"));
        assert!(env.mentions("/run/modal-build/ca-certificates.crt"));
    }

    #[test]
    fn nothing_is_shown_where_it_does_not_or_nobody_can_say() {
        for (bundle, env) in [shown(&["AA"], &["AA", "BB"]), shown(&["AA", "OWN"], &[])] {
            assert!(bundle.is_none() && env == Environment::default());
        }
    }
}
