//! Certificate authorities that only this machine trusts, shown to sandboxes and to containers of functions.
//!
//! Where a machine's way out passes a proxy with an authority of its own, as in many companies, nothing inside could check
//! a certificate, and `pip install` in a sandbox would fail. So the machine's bundle of certificates is shown
//! above the image's files, and named by the variables that build steps have, too, of which any that the
//! image, the definition or a secret sets wins. Nothing else of the machine's settings is: an index's address may
//! hold a password.
//!
//! On a machine that trusts what its distribution does, and on one where that can't be told, nothing is shown.

use std::collections::HashSet;
use std::path::Path;

use container_runtime::GeneratedFile;

use super::environment::Environment;
use crate::image::{CERTIFICATE_VARIABLES, INSIDE, SYSTEM_CERTIFICATES};

/// Where Debian's package keeps each authority that the distribution trusts.
const DISTRIBUTED: &str = "/usr/share/ca-certificates";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The bundle to show, if this machine has authorities of its own.
pub(super) struct OwnRoots {
    bundle: Option<String>,
}

impl OwnRoots {
    /// Looks at this machine.
    pub(super) fn find() -> Self {
        Self::of(Path::new("/"))
    }

    fn of(root: &Path) -> Self {
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        let read = |path: &&str| std::fs::read_to_string(at(path)).ok();
        let bundle = SYSTEM_CERTIFICATES.iter().find_map(read);
        Self { bundle: bundle.filter(|bundle| has_others(bundle, &at(DISTRIBUTED))) }
    }

    /// The file that holds the bundle inside.
    pub(super) fn file(&self) -> Option<GeneratedFile> {
        let contents = self.bundle.clone()?.into_bytes();
        Some(GeneratedFile { path: path().into(), contents, mode: 0o644 })
    }

    /// Adds the variables that name the bundle to a container's.
    pub(super) fn name(&self, env: &mut Environment) {
        if self.bundle.is_some() {
            for name in CERTIFICATE_VARIABLES {
                env.put(name, &path());
            }
        }
    }
}

fn path() -> String {
    format!("{INSIDE}/ca-certificates.crt")
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
        let roots = OwnRoots::of(root.path());
        let mut env = Environment::default();
        roots.name(&mut env);
        (roots.file().map(|file| String::from_utf8(file.contents).unwrap()), env)
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
