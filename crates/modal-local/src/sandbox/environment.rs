//! The environment variables of a sandbox's programs.
//!
//! Order of what wins, weakest first: defaults, the image, the sandbox's definition, its secrets in
//! the order given, what the server says about the sandbox itself; for a command also its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use crate::error::{Error, Result};

/// Where programs are found if the image does not say.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Root's home, as everything runs as root.
pub(crate) const DEFAULT_HOME: &str = "/root";

/// The variable of a function's container that names servers of this machine which it may reach: `127.0.0.1:PORT`,
/// with commas between several.
const OPENED_PORTS: &str = "MODAL_LOCAL_OPENED_PORTS";

/// Variables of one program. Values may be secrets: `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// What every program finds, whatever its image.
    pub(crate) fn with_defaults() -> Self {
        let mut environment = Self::default();
        environment.put("PATH", DEFAULT_PATH);
        environment.put("HOME", DEFAULT_HOME);
        environment
    }

    /// Sets one variable of the server's own.
    pub(crate) fn put(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Adds variables; they win over those that are there.
    ///
    /// # Errors
    ///
    /// Where a name or value cannot be an environment variable; the value is not in the message.
    pub(crate) fn extend(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<()> {
        for (name, value) in variables {
            check(&name, &value)?;
            self.0.insert(name, value);
        }
        Ok(())
    }

    /// Whether some value contains `text`.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.0.values().any(|value| value.contains(text))
    }

    /// Whether some value contains the address `127.0.0.1:port`.
    pub(crate) fn names_port(&self, port: u16) -> bool {
        let address = format!("127.0.0.1:{port}");
        let ends = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_digit());
        let names = |value: &String| value.split(&address).skip(1).any(ends);
        self.0.values().any(names)
    }

    /// Ports of this machine's loopback that the definition opens by [`OPENED_PORTS`], beside those of web functions.
    pub(crate) fn opened_ports(&self) -> impl Iterator<Item = u16> {
        let named = self.0.get(OPENED_PORTS).into_iter().flat_map(|value| value.split(','));
        named.filter_map(|address| address.trim().strip_prefix("127.0.0.1:")?.parse().ok())
    }

    /// The variables as a program gets them.
    pub(crate) fn to_os(&self) -> Vec<(OsString, OsString)> {
        self.0.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn check(name: &str, value: &str) -> Result<()> {
    if name.is_empty() || name.contains(['=', '\0']) {
        let problem = "is empty or contains `=` or NUL";
        return Err(Error::invalid(format!("environment variable name {name:?} {problem}")));
    }
    if value.contains('\0') {
        return Err(Error::invalid(format!(
            "the value of environment variable `{name}` has a NUL"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    #[test]
    fn later_sources_win_and_defaults_fill_in() {
        let mut environment = Environment::with_defaults();
        environment.extend(pairs([("PATH", "/image"), ("A", "image")])).unwrap();
        environment.extend(pairs([("A", "secret")])).unwrap();
        let expected = [("A", "secret"), ("HOME", "/root"), ("PATH", "/image")];
        assert_eq!(environment.to_os(), expected.map(|(k, v)| (k.into(), v.into())));
    }

    #[test]
    fn values_are_never_shown() {
        let mut environment = Environment::default();
        environment.extend(pairs([("API_KEY", "hunter2")])).unwrap();
        assert_eq!(format!("{environment:?}"), r#"{"API_KEY"}"#);
        let error = environment.extend(pairs([("API_KEY", "hunter2\0")])).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn impossible_names_are_refused() {
        for name in ["", "A=B", "A\0"] {
            Environment::default().extend(pairs([(name, "x")])).unwrap_err();
        }
    }
}
