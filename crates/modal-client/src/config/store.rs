//! Writing a token into `~/.modal.toml`: other profiles and comments stay as they are.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use toml_edit::{DocumentMut, Item, Table, value};

use super::{ConfigError, Environ, file};
use crate::login::NewToken;

/// The configuration file: `MODAL_CONFIG_PATH`, else `~/.modal.toml`. `None` where there is no home directory.
pub fn config_path(environ: &Environ) -> Option<PathBuf> {
    file::path(environ)
}

/// Puts a token into a profile of the configuration file and, with `activate`, makes it the active one. The file is
/// replaced as a whole, and only its owner can read it.
///
/// # Errors
/// [`ConfigError::Malformed`] if the file is not TOML, [`ConfigError::Unreadable`] or [`ConfigError::Unwritable`].
pub fn store_token(
    path: &Path,
    profile: &str,
    token: &NewToken,
    server_url: Option<&str>,
    activate: bool,
) -> Result<(), ConfigError> {
    // A link to a file elsewhere stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let text = file::read(&path)?.unwrap_or_default();
    let mut document: DocumentMut = text.parse().map_err(|_| ConfigError::Malformed {
        path: path.clone(),
        // The parser's own error would quote the line, which may hold a token.
        problem: "it is not valid TOML; mend it first".to_owned(),
    })?;
    put(&mut document, profile, token, server_url, activate).ok_or_else(|| {
        let problem = format!("`{profile}` is not a table in it");
        ConfigError::Malformed { path: path.clone(), problem }
    })?;
    write(&path, &document.to_string())
        .map_err(|source| ConfigError::Unwritable { path: path.clone(), source })
}

fn put(
    document: &mut DocumentMut,
    profile: &str,
    token: &NewToken,
    server_url: Option<&str>,
    activate: bool,
) -> Option<()> {
    let table = document.entry(profile).or_insert_with(|| Item::Table(Table::new()));
    let table = table.as_table_like_mut()?;
    table.insert("token_id", value(token.id.as_str()));
    table.insert("token_secret", value(token.secret.expose()));
    if let Some(url) = server_url {
        table.insert("server_url", value(url));
    }
    if activate {
        table.insert("active", value(true));
        for (name, other) in document.iter_mut() {
            if name.get() != profile
                && let Some(other) = other.as_table_like_mut()
            {
                other.remove("active");
            }
        }
    }
    Some(())
}

/// Replaces a file by one that only its owner can read.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", uuid::Uuid::new_v4().simple()));
    let new = path.with_file_name(name);
    let written = create_private(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn create_private(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> NewToken {
        NewToken { id: "ak-new".to_owned(), secret: "as-new".into(), workspace: "team".to_owned() }
    }

    fn stored(before: Option<&str>, profile: &str, activate: bool) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("modal.toml");
        if let Some(text) = before {
            fs::write(&path, text).unwrap();
        }
        store_token(&path, profile, &token(), None, activate).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "something was left behind");
        fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn a_new_file_has_one_active_profile() {
        assert_eq!(
            stored(None, "team", true),
            "[team]\ntoken_id = \"ak-new\"\ntoken_secret = \"as-new\"\nactive = true\n"
        );
    }

    #[test]
    fn other_profiles_comments_and_settings_stay() {
        let before = "# mine\n[home] # at home\ntoken_id = \"ak-1\"\ntoken_secret = \"as-1\"\nactive = true\n\n[team]\ntheme = \"dark\" # kept\ntoken_id = \"old\"\n";
        assert_eq!(
            stored(Some(before), "team", true),
            "# mine\n[home] # at home\ntoken_id = \"ak-1\"\ntoken_secret = \"as-1\"\n\n[team]\ntheme = \"dark\" # kept\ntoken_id = \"ak-new\"\ntoken_secret = \"as-new\"\nactive = true\n"
        );
        assert!(stored(Some(before), "other", false).starts_with(before));
    }

    #[test]
    fn a_file_that_is_no_toml_is_left_alone_and_not_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("modal.toml");
        fs::write(&path, "token = as-planted").unwrap();
        let error = store_token(&path, "x", &token(), None, true).unwrap_err();
        assert!(!format!("{error:?}").contains("planted"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "token = as-planted");
    }
}
