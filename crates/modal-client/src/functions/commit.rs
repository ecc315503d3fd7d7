//! Which commit a deployment was made of.

use modal_proto::client as api;

/// A commit of git, as Modal's pages show it beside a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// Forty hexadecimal digits.
    pub hash: String,
    /// Its branch; `HEAD` for none.
    pub branch: String,
    /// When it was made, in seconds since 1970.
    pub committed_at: i64,
    /// Whether files differ from it.
    pub is_dirty: bool,
    /// Who wrote it.
    pub author_name: String,
    /// How to reach them.
    pub author_email: String,
    /// Where the repository is; it may hold no password.
    pub repository: String,
}

impl Commit {
    pub(super) fn into_message(self) -> api::CommitInfo {
        api::CommitInfo {
            vcs: "git".to_owned(),
            branch: self.branch,
            commit_hash: self.hash,
            commit_timestamp: self.committed_at,
            dirty: self.is_dirty,
            author_name: self.author_name,
            author_email: self.author_email,
            repo_url: self.repository,
        }
    }
}
