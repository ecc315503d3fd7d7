//! This machine's way to packages: certificates, mirrors, proxies. Given to a build step and to
//! nothing else: neither a layer nor an image's environment keeps any of it.
//!
//! Everything is shown to the step in one read-only directory, [`INSIDE`], and named by environment
//! variables, so no file of the image is touched. Credentials among it (a password in an index's
//! address) are in the environment and files of the step, as they are for the user's own tools.

mod apt;
mod npm;
mod pip;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::durable;
use crate::error::Result;

/// Where a step finds the directory.
pub(crate) const INSIDE: &str = "/run/modal-build";

/// The bundle of certificates that Debian, and most others by now, have.
pub(crate) const SYSTEM_CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Variables by which programs are told of a bundle of certificates.
pub(crate) const CERTIFICATE_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "NPM_CONFIG_CAFILE",
];

/// What the machine says about packages, read once when the server starts.
#[derive(Clone, Default)]
pub(crate) struct PackageSettings {
    /// For the step's environment.
    env: BTreeMap<String, String>,
    /// Files of the directory.
    files: BTreeMap<String, Vec<u8>>,
    /// Directories of this machine shown in it: name, source.
    links: Vec<(String, PathBuf)>,
}

/// Where the settings come from; tests give their own.
pub(crate) struct Machine {
    /// The server's environment.
    pub(crate) env: BTreeMap<String, String>,
    /// `/`, or a directory that plays its part.
    pub(crate) root: PathBuf,
    /// What `apt-config dump` prints, where there is one.
    pub(crate) apt_config: String,
}

impl Machine {
    /// This machine.
    pub(crate) async fn this() -> Self {
        let dump = tokio::process::Command::new("apt-config")
            .arg("dump")
            .stdin(std::process::Stdio::null())
            .output()
            .await;
        let apt_config = match dump {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(_) => String::new(),
        };
        let text = |value: std::ffi::OsString| value.into_string().ok();
        let env = std::env::vars_os().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect();
        Self { env, root: PathBuf::from("/"), apt_config }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A file by its absolute path.
    fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        fs::read(self.locate(path.as_ref())).ok()
    }

    fn read_text(&self, path: impl AsRef<Path>) -> Option<String> {
        String::from_utf8(self.read(path)?).ok()
    }

    /// A file in the home directory.
    fn home(&self, path: &str) -> PathBuf {
        Path::new(self.variable("HOME").unwrap_or("/root")).join(path)
    }

    fn locate(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl PackageSettings {
    /// Gathers what `machine` says.
    pub(crate) fn of(machine: &Machine) -> Self {
        let mut settings = Self::default();
        settings.proxies(machine);
        settings.certificates(machine);
        pip::gather(machine, &mut settings);
        npm::gather(machine, &mut settings);
        apt::gather(machine, &mut settings);
        settings
    }

    /// The variables for a step's environment.
    pub(crate) fn env(&self) -> impl Iterator<Item = (&String, &String)> {
        self.env.iter()
    }

    /// Directories to show below [`INSIDE`]: their names in it and where they are.
    pub(crate) fn links(&self) -> &[(String, PathBuf)] {
        &self.links
    }

    /// What apt must be told outside of an image, when a base is made.
    pub(crate) fn apt_lines(&self) -> String {
        let text = self.files.get(apt::FILE).cloned().unwrap_or_default();
        apt::network_lines(&String::from_utf8_lossy(&text))
    }

    /// Writes the directory that a step is shown.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        durable::create_dir(directory, 0o755)?;
        for (name, contents) in &self.files {
            let path = directory.join(name);
            fs::write(&path, contents).map_err(crate::Error::file("write", &path))?;
        }
        for (name, _) in &self.links {
            durable::create_dir(&directory.join(name), 0o755)?;
        }
        let scratch = directory.join(SCRATCH);
        durable::create_dir(&scratch.join(apt::ARCHIVES).join("partial"), 0o755)?;
        // Also for steps that run as another user.
        durable::create_dir(&scratch, 0o1777)
    }

    fn proxies(&mut self, machine: &Machine) {
        const NAMES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
        for name in NAMES {
            for name in [name.to_owned(), name.to_ascii_lowercase()] {
                self.copy_variable(machine, &name);
            }
        }
    }

    fn certificates(&mut self, machine: &Machine) {
        const FILE: &str = "ca-certificates.crt";
        let configured = machine.variable("SSL_CERT_FILE").into_iter();
        let Some(bundle) =
            configured.chain(SYSTEM_CERTIFICATES).find_map(|path| machine.read(path))
        else {
            return;
        };
        self.files.insert(FILE.to_owned(), bundle);
        for name in CERTIFICATE_VARIABLES {
            self.env.insert(name.to_owned(), format!("{INSIDE}/{FILE}"));
        }
    }

    fn copy_variable(&mut self, machine: &Machine, name: &str) {
        if let Some(value) = machine.variable(name) {
            self.env.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Shows a directory of this machine to the step, and answers its path inside.
    fn show_directory(&mut self, machine: &Machine, path: &str) -> Option<String> {
        let source = machine.locate(Path::new(path));
        if !Path::new(path).is_absolute() || !source.is_dir() {
            return None;
        }
        let name = match self.links.iter().find(|(_, known)| *known == source) {
            Some((name, _)) => name.clone(),
            None => {
                let name = format!("links-{}", self.links.len());
                self.links.push((name.clone(), source));
                name
            }
        };
        Some(format!("{INSIDE}/{name}"))
    }

    /// Words that are directories of this machine become their paths inside; others stay.
    fn translate_paths(&mut self, machine: &Machine, words: &str) -> String {
        let words = words.split_whitespace();
        let translated = words.filter_map(|word| {
            let path = word.strip_prefix("file://").unwrap_or(word);
            match self.show_directory(machine, path) {
                Some(inside) => Some(inside),
                None if path.starts_with('/') => None,
                None => Some(word.to_owned()),
            }
        });
        translated.collect::<Vec<_>>().join(" ")
    }
}

/// A writable directory below [`INSIDE`] for downloads that no layer needs.
pub(crate) const SCRATCH: &str = "scratch";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine with a proxy, an index of its own and a certificate.
    pub(crate) fn machine(root: &Path) -> Machine {
        let files: &[(&str, &str)] = &[
            ("etc/ssl/certs/ca-certificates.crt", "certificates of the machine\n"),
            (
                "etc/pip.conf",
                "[global]\ncert = /elsewhere\nindex-url = https://u:word@pypi.example.com/simple\n[install]\nuser = true\nfind-links =\n    /opt/wheels\n    https://wheels.example.com/\n",
            ),
            ("root/.config/pip/pip.conf", "[global]\ntimeout = 7\n"),
            (
                "root/.npmrc",
                "# mine\nregistry=https://npm.example.com/\n//npm.example.com/:_authToken=word\nprefix=/elsewhere\ncafile=/elsewhere\n@goat:registry=https://npm.example.com/goat\n",
            ),
        ];
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(root.join("opt/wheels")).unwrap();
        let env = [
            ("HOME", "/root"),
            ("HTTPS_PROXY", "http://proxy.example.com:3128"),
            ("PIP_FIND_LINKS", "/opt/wheels /missing"),
            ("PIP_TARGET", "/elsewhere"),
            ("UV_INDEX_URL", "https://pypi.example.com/simple"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ("MODAL_TOKEN_SECRET", "hidden"),
        ];
        let apt_config = "APT \"\";\nAcquire::http::Proxy \"http://proxy.example.com:3128\";\nAcquire::https::CaInfo \"/elsewhere.crt\";\nAcquire::Check-Valid-Until \"false\";\nAcquire::Languages:: \"none\";\nDPkg::Post-Invoke:: \"rm -rf /\";\n";
        Machine {
            env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            root: root.to_owned(),
            apt_config: apt_config.to_owned(),
        }
    }

    #[test]
    fn what_a_step_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let settings = PackageSettings::of(&machine(dir.path()));
        let mut shown: Vec<String> =
            settings.env().map(|(name, value)| format!("{name}={value}")).collect();
        for (name, contents) in &settings.files {
            shown.push(format!("\n--- {name}\n{}", String::from_utf8_lossy(contents)));
        }
        insta::assert_snapshot!(shown.join("\n"));
        assert_eq!(settings.links, [("links-0".to_owned(), dir.path().join("opt/wheels"))]);
    }

    #[test]
    fn a_machine_without_settings_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine {
            env: BTreeMap::new(),
            root: dir.path().to_owned(),
            apt_config: String::new(),
        };
        let settings = PackageSettings::of(&machine);
        assert!(!settings.env().any(|(name, _)| name.contains("PROXY") || name.contains("CERT")));
    }

    #[test]
    fn the_directory_is_written_as_described() {
        let dir = tempfile::tempdir().unwrap();
        let settings = PackageSettings::of(&machine(dir.path()));
        let written = dir.path().join("written");
        settings.write(&written).unwrap();
        for name in settings.files.keys() {
            assert!(written.join(name).is_file(), "{name}");
        }
        assert!(
            written.join("links-0").is_dir()
                && written.join(SCRATCH).join("archives/partial").is_dir()
        );
    }
}
