//! The commit that a deployment is made from, for the history of the app.

use std::path::Path;

use modal_client::Commit;
use tokio::process::Command;

/// The longest texts that Modal's own client sends (`_utils/git_utils.py` of 1.6.4); with longer ones it sends nothing.
const LONGEST: usize = 200;
const LONGEST_BRANCH: usize = 255;

/// The newest commit of the directory's repository; nothing where there is none, or no git.
pub(super) async fn of(directory: &Path) -> Option<Commit> {
    let log = git(directory, &["log", "-1", "--format=%H%n%ct%n%an%n%ae", "HEAD"]).await?;
    let mut lines = log.lines();
    let mut line = || lines.next().map(str::to_owned);
    let (hash, committed_at) = (line()?, line()?.parse().ok()?);
    let (author_name, author_email) = (line()?, line()?);
    let branch = git(directory, &["rev-parse", "--abbrev-ref", "HEAD"]).await?;
    let status = git(directory, &["status", "--porcelain"]).await;
    let origin = git(directory, &["remote", "get-url", "origin"]).await.unwrap_or_default();
    let commit = Commit {
        hash,
        branch,
        committed_at,
        is_dirty: status.is_some_and(|status| !status.is_empty()),
        author_name,
        author_email,
        repository: without_credentials(&origin),
    };
    is_short(&commit).then_some(commit)
}

fn is_short(commit: &Commit) -> bool {
    let Commit { hash, branch, author_name, author_email, repository, .. } = commit;
    let others = [author_name, author_email, repository];
    hash.len() == 40
        && branch.chars().count() <= LONGEST_BRANCH
        && others.iter().all(|text| text.chars().count() <= LONGEST)
}

/// What git says; nothing where it fails.
async fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    let output = command.arg("-C").arg(directory).args(arguments).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// An address may hold a token, which is nobody's business.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_loses_its_credentials_alone() {
        let same = ["https://github.com/a/b", "git@github.com:a/b.git", "/srv/git/b", ""];
        for url in same {
            assert_eq!(without_credentials(url), url);
        }
        let mended = without_credentials("https://me:planted@github.com/a/b@c");
        assert_eq!(mended, "https://github.com/a/b@c");
    }

    #[tokio::test]
    async fn the_newest_commit_is_told_and_no_repository_is_none() {
        let directory = tempfile::tempdir().unwrap();
        // Whatever repository the directory is in.
        let is_repository = git(directory.path(), &["rev-parse", "--show-toplevel"]).await;
        assert_eq!(is_repository, None);
        assert_eq!(of(directory.path()).await, None);
        let run = async |arguments: &[&str]| {
            let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
            git(directory.path(), &[&who, arguments].concat()).await.unwrap()
        };
        run(&["init", "--quiet", "--initial-branch", "trunk"]).await;
        run(&["commit", "--quiet", "--allow-empty", "--message", "one"]).await;
        run(&["remote", "add", "origin", "https://x:planted@example.com/r"]).await;
        std::fs::write(directory.path().join("new"), "").unwrap();
        let commit = of(directory.path()).await.unwrap();
        assert_eq!((commit.hash.len(), commit.branch.as_str()), (40, "trunk"));
        assert_eq!(
            (commit.author_name.as_str(), commit.author_email.as_str()),
            ("Ada", "ada@example.com")
        );
        assert!(commit.is_dirty && commit.committed_at > 0);
        assert_eq!(commit.repository, "https://example.com/r");
    }
}
