//! The file that keeps values on this machine: `.env`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use secret_string::SecretString;

use crate::error::{Error, Result};

/// Readable by its owner alone.
#[cfg(unix)]
const MODE: u32 = 0o600;

/// A file of `NAME=value` lines, in the syntax of `dotenvy`. Changes are made when [`EnvFile::save`] is called.
#[derive(Debug, Clone)]
pub struct EnvFile {
    path: PathBuf,
    text: zeroize::Zeroizing<String>,
    values: BTreeMap<String, SecretString>,
}

impl EnvFile {
    /// Reads the file. One that does not exist is empty.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Error::ReadFile { path, source }),
        };
        let mut values = BTreeMap::new();
        let mut after = "the start".to_owned();
        for line in dotenvy::from_read_iter(text.as_bytes()) {
            // What dotenvy says quotes the line, and with it the value.
            let (name, value) =
                line.map_err(|_| Error::ParseFile { path: path.clone(), after: after.clone() })?;
            after.clone_from(&name);
            values.insert(name, value.into());
        }
        Ok(Self { path, text: text.into(), values })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A value that is not empty.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.values.get(name).filter(|value| !value.expose().is_empty())
    }

    /// The values that are not empty, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        let values = self.values.iter().filter(|(_, value)| !value.expose().is_empty());
        values.map(|(name, value)| (name.as_str(), value))
    }

    /// Sets a value: in its line if it has one, else in a new one at the end. Everything else stays.
    pub fn set(&mut self, name: &str, value: &SecretString) -> Result<()> {
        let line = line(name, value)?;
        let mut text = zeroize::Zeroizing::new(String::new());
        let mut is_set = false;
        for old in self.text.split_inclusive('\n') {
            if !defines(old, name) {
                text.push_str(old);
            } else if !is_set {
                text.push_str(&line);
                is_set = true;
            }
        }
        if !is_set {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&line);
        }
        self.text = text;
        self.values.insert(name.to_owned(), value.clone());
        Ok(())
    }

    /// Writes the file, whole or not at all, for its owner's eyes alone.
    pub fn save(&self) -> Result<()> {
        let fail = |source| Error::WriteFile { path: self.path.clone(), source };
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        // Made for its owner alone, so that nobody reads it before its mode is set.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(fail)?;
        file.write_all(self.text.as_bytes()).map_err(fail)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file().set_permissions(fs::Permissions::from_mode(MODE)).map_err(fail)?;
        }
        file.as_file().sync_all().map_err(fail)?;
        // A link is followed: some keep the file elsewhere.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        file.persist(target).map_err(|error| fail(error.error))?;
        Ok(())
    }
}

/// Whether a line sets that variable.
fn defines(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
}

/// Quoted wherever a character could mean something.
fn line(name: &str, value: &SecretString) -> Result<String> {
    let value = value.expose();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/@+=".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return Ok(format!("{name}={value}\n"));
    }
    if value.contains(['\n', '\r']) {
        return Err(Error::UnwritableValue(name.to_owned()));
    }
    // Not single quotes: dotenvy 0.15 is not of one mind about a backslash between them.
    let mut line = format!("{name}=\"");
    for c in value.chars() {
        if matches!(c, '\\' | '"' | '$') {
            line.push('\\');
        }
        line.push(c);
    }
    line.push_str("\"\n");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, EnvFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        fs::write(&path, text).unwrap();
        let file = EnvFile::read(path).unwrap();
        (directory, file)
    }

    #[test]
    fn only_the_lines_of_a_variable_change() {
        let (_directory, mut file) =
            file("# mine\nA=1\n export KEY = old\nKEYS=2\n\nKEY=older\nLAST=3");
        file.set("KEY", &"new".into()).unwrap();
        file.set("NAME", &"two words".into()).unwrap();
        file.save().unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "# mine\nA=1\nKEY=new\nKEYS=2\n\nLAST=3\nNAME=\"two words\"\n");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owner_s_alone_also_if_it_was_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_directory, mut file) = file("A=1\n");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        file.set("B", &"2".into()).unwrap();
        file.save().unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_not_there_is_empty_and_a_bad_line_is_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        assert!(EnvFile::read(directory.path().join("none")).unwrap().get("A").is_none());
        let path = directory.path().join(".env");
        fs::write(&path, "A=1\nsk-secret-alone\n").unwrap();
        let words = EnvFile::read(path).unwrap_err().to_string();
        assert!(words.ends_with("has a line that is not NAME=value: after `A`"), "{words}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in "[ -~é]{1,40}") {
            let (_directory, mut file) = file("");
            file.set("KEY", &value.as_str().into()).unwrap();
            file.save().unwrap();
            let again = EnvFile::read(file.path()).unwrap();
            prop_assert_eq!(again.get("KEY").map(SecretString::expose), Some(value.as_str()));
        }
    }
}
