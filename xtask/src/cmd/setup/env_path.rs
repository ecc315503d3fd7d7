//! The file that keeps values: which one, and whether git would take it along.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::bail;

use crate::{context::Context, exit::UsageError};

/// The variable that names the file.
const VARIABLE: &str = "GOAT_ENV_FILE";

/// `--env-file`, then GOAT_ENV_FILE, else `.env` of the repository.
pub(crate) fn choose(flag: Option<&Path>, context: &Context) -> anyhow::Result<PathBuf> {
    let named = flag.map(Path::to_owned).or_else(variable);
    let path = std::path::absolute(named.unwrap_or_else(|| context.workspace.path(".env")))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    if path.is_dir() || !directory.is_dir() {
        let text = format!("`{}` can't be the file of values: no such directory", path.display());
        return Err(UsageError(text).into());
    }
    Ok(path)
}

/// The same for who needs the values: one that is named must be there. None where nothing is named, and there is no
/// `.env`.
pub(crate) fn existing(flag: Option<&Path>, context: &Context) -> anyhow::Result<Option<PathBuf>> {
    let path = choose(flag, context)?;
    if path.is_file() {
        return Ok(Some(path));
    }
    let named = match flag {
        Some(_) => "--env-file",
        None if variable().is_some() => VARIABLE,
        None => return Ok(None),
    };
    let path = path.display();
    let text = format!("{named} names `{path}`, which is not there: `cargo xtask setup` makes it");
    Err(UsageError(text).into())
}

fn variable() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Fails if the file lies in a repository of git that would take it along.
pub(crate) fn is_kept_out_of_git(path: &Path) -> anyhow::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(directory).args(arguments).arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // No git, no repository.
        command.status().ok().and_then(|status| status.code())
    };
    // 0: ignored, 1: not ignored, anything else: no repository.
    let is_taken = git(&["check-ignore", "--quiet", "--"]) == Some(1);
    let is_tracked = git(&["ls-files", "--error-unmatch", "--"]) == Some(0);
    if is_taken || is_tracked {
        bail!(
            "git would take `{}` with all secrets along: add it to .gitignore{}",
            path.display(),
            if is_tracked { " and `git rm --cached` it" } else { "" }
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(directory: &Path, arguments: &[&str]) {
        let done = Command::new("git").arg("-C").arg(directory).args(arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    #[test]
    fn a_file_in_a_repository_must_be_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        assert!(is_kept_out_of_git(&path).is_ok(), "there is no repository");
        git(directory.path(), &["init", "--quiet"]);
        assert!(is_kept_out_of_git(&path).is_err(), "not even before it is there");
        std::fs::write(directory.path().join(".gitignore"), ".env\n").unwrap();
        assert!(is_kept_out_of_git(&path).is_ok());
        std::fs::write(&path, "A=1\n").unwrap();
        git(directory.path(), &["add", "--force", ".env"]);
        let words = is_kept_out_of_git(&path).unwrap_err().to_string();
        assert!(words.ends_with("and `git rm --cached` it"), "{words}");
    }
}
