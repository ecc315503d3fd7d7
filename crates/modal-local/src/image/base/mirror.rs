//! Which Debian mirror this machine is set up to use.

use url::Url;

/// The mirror of Debian proper and, where the machine uses one, that of its security updates.
///
/// Addresses as the machine has them: they may hold a password, so they are shown by
/// [`Mirror::shown`] only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    main: Url,
    security: Option<Url>,
}

impl Mirror {
    /// Reads apt's source files, given as their contents. A machine that uses no Debian mirror has none.
    pub(crate) fn from_sources<S: AsRef<str>>(files: &[S]) -> Option<Self> {
        let sources: Vec<Source> = files.iter().flat_map(|file| sources(file.as_ref())).collect();
        let find = |security: bool| {
            let fits = |source: &&Source| {
                source.components.iter().any(|component| component == "main")
                    && source.suites.iter().any(|suite| is_debian(suite, security))
            };
            let urls = sources.iter().filter(fits).flat_map(|source| &source.uris);
            urls.filter_map(|uri| Url::parse(uri).ok())
                .find(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        Some(Self { main: find(false)?, security: find(true) })
    }

    /// The main mirror's address without a password.
    pub(crate) fn shown(&self) -> String {
        without_password(&self.main)
    }

    /// Lines for apt, as complete as the machine's own: for a file that only its owner reads.
    pub(crate) fn private_sources(&self, suite: &str) -> String {
        format!("deb {} {suite} main\n", self.main)
    }

    /// Lines for apt inside the image, without passwords, with updates and security.
    pub(crate) fn public_sources(&self, suite: &str) -> String {
        let main = without_password(&self.main);
        let mut lines = format!("deb {main} {suite} main\ndeb {main} {suite}-updates main\n");
        if let Some(security) = &self.security {
            lines += &format!("deb {} {suite}-security main\n", without_password(security));
        }
        lines
    }
}

fn without_password(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for addresses without a host, which are not taken.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

fn is_debian(suite: &str, security: bool) -> bool {
    const NAMES: [&str; 8] =
        ["bullseye", "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing"];
    match suite.strip_suffix("-security") {
        Some(name) => security && NAMES.contains(&name),
        None => !security && NAMES.contains(&suite),
    }
}

/// One entry of apt's sources.
#[derive(Debug, Default)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

/// Both formats: lines that begin with `deb`, and stanzas of fields.
fn sources(file: &str) -> Vec<Source> {
    let is_line = |line: &str| line.trim_start().starts_with("deb ");
    if file.lines().any(is_line) {
        return file.lines().filter(|line| is_line(line)).filter_map(one_line).collect();
    }
    let mut found = Vec::new();
    let mut stanza = String::new();
    for line in file.lines().chain([""]) {
        if line.trim().is_empty() {
            found.extend(self::stanza(&std::mem::take(&mut stanza)));
        } else if !line.starts_with('#') {
            stanza.push_str(line);
            stanza.push('\n');
        }
    }
    found
}

/// `deb [options] uri suite component…`
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?.trim();
    let line = match line.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => line,
    };
    let mut words = line.split_whitespace().map(str::to_owned);
    let source = Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
    };
    Some(source)
}

fn stanza(text: &str) -> Option<Source> {
    let mut source = Source::default();
    let (mut is_deb, mut enabled) = (false, true);
    for line in text.lines() {
        let Some((field, value)) = line.split_once(':') else { continue };
        let values = || value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        match field.to_ascii_lowercase().as_str() {
            "types" => is_deb = values().iter().any(|kind| kind == "deb"),
            "uris" => source.uris = values(),
            "suites" => source.suites = values(),
            "components" => source.components = values(),
            "enabled" => enabled = !matches!(value.trim(), "no" | "false"),
            _ => {}
        }
    }
    (is_deb && enabled).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(files: &[&str]) -> String {
        let mirror = Mirror::from_sources(files).unwrap();
        mirror.public_sources("bookworm")
    }

    #[test]
    fn the_machines_mirror_is_taken_and_other_archives_are_not() {
        insta::assert_snapshot!(mirror(&[
            "deb https://packages.example.com/apt cloud-sdk-bookworm main\n",
            "deb https://download.example.com/linux/debian bookworm stable\n",
            "# comment\nTypes: deb deb-src\nURIs: http://user:word@mirror.example.com/debian/\nSuites: bookworm bookworm-updates\nComponents: main contrib\n\nTypes: deb\nURIs: https://mirror.example.com/security\nSuites: bookworm-security\nComponents: main\n",
        ]));
    }

    #[test]
    fn the_old_format_is_read_with_its_options() {
        insta::assert_snapshot!(mirror(&[
            "deb [arch=amd64 signed-by=/k] https://mirror.example.com/debian stable main # why\n",
        ]));
    }

    #[test]
    fn another_distributions_machine_has_no_mirror() {
        let ubuntu = "deb http://archive.example.com/ubuntu noble main universe\n";
        let disabled = "Types: deb\nEnabled: no\nURIs: http://a.example.com/\nSuites: stable\nComponents: main\n";
        assert!(Mirror::from_sources(&[ubuntu, disabled]).is_none());
    }

    #[test]
    fn the_password_stays_in_the_private_file() {
        let mirror =
            Mirror::from_sources(&["deb http://user:word@m.example.com/debian bookworm main\n"])
                .unwrap();
        assert!(mirror.private_sources("bookworm").contains("user:word@"));
        assert!(!mirror.shown().contains("word"));
        assert!(!mirror.public_sources("bookworm").contains("word"));
    }
}
