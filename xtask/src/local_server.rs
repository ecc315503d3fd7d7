//! This machine's server, as commands need it: found, started, asked.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sandbox_runner::{
    Error,
    relay::{FindServer, RelayServer},
};

use crate::context::Context;

#[cfg(target_os = "linux")]
pub(crate) use modal_local::Substitution;

/// What to build instead of an image.
#[cfg(not(target_os = "linux"))]
pub(crate) struct Substitution {
    pub(crate) matches: String,
    pub(crate) dockerfile_commands: Vec<String>,
    pub(crate) reason: String,
}

/// The server of one state directory, whether it runs or not.
#[derive(Clone, Debug)]
pub(crate) struct LocalServer {
    root: PathBuf,
}

impl LocalServer {
    /// This command's.
    pub(crate) fn of(context: &Context) -> Self {
        Self::at(context.state.root())
    }

    /// That of a state directory.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

#[async_trait]
impl FindServer for LocalServer {
    async fn find(&self) -> sandbox_runner::Result<RelayServer> {
        let found = self.ensure_running().await;
        found.map_err(|error| Error::backend("find or start the local server", error))
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::process::Command;

    use anyhow::Context as _;
    use modal_local::{StateDir, Substitution, daemon};
    use sandbox_runner::{Secret, relay::RelayServer};

    use super::LocalServer;
    use crate::target::Target;

    /// One call to the server.
    const CALL: std::time::Duration = std::time::Duration::from_secs(10);
    /// What a background server tells in its log: what it does, and every call that failed.
    const SERVER_LOG: &str = "info,sqlx=warn";

    /// The table of substitutions, as the server has it.
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Table {
        substitutions: Vec<Substitution>,
    }

    /// An answer that is no refusal; a refusal in the server's own words.
    async fn accepted(answer: reqwest::Response) -> anyhow::Result<reqwest::Response> {
        let status = answer.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(answer);
        }
        let said = answer.text().await.unwrap_or_default();
        match said.trim() {
            "" => anyhow::bail!("the local server refused that with status {status}"),
            said => anyhow::bail!("the local server refused that: {said}"),
        }
    }

    impl LocalServer {
        /// Has the server build something else for an image that it can't have. Others' substitutions stay.
        pub(crate) async fn substitute(&self, wanted: Substitution) -> anyhow::Result<()> {
            let add = |table: &mut Table| {
                let is_new = !table.substitutions.contains(&wanted);
                table.substitutions.retain(|it| it.matches != wanted.matches);
                table.substitutions.push(wanted);
                is_new
            };
            self.edit(add).await.context("can't register a substitution at the local server")?;
            Ok(())
        }

        /// Takes back what was registered for an image; `false` if nothing was.
        pub(crate) async fn forget_substitution(&self, image: &str) -> anyhow::Result<bool> {
            let remove = |table: &mut Table| {
                let before = table.substitutions.len();
                table.substitutions.retain(|it| it.matches != image);
                table.substitutions.len() < before
            };
            self.edit(remove).await.context("can't remove a substitution from the local server")
        }

        /// Changes the table; `change` says whether there is anything to send.
        async fn edit(&self, change: impl FnOnce(&mut Table) -> bool) -> anyhow::Result<bool> {
            let server = self.ensure_running().await?;
            let client = crate::services::http(Target::Local, CALL)?;
            let call = |method| {
                let url = format!("{}/_local/substitutions", server.url.trim_end_matches('/'));
                let call = client.request(method, url).header("x-modal-token-id", &server.token_id);
                call.header("x-modal-token-secret", server.token_secret.expose())
            };
            let answer = accepted(call(reqwest::Method::GET).send().await?).await?;
            let mut table: Table = answer.json().await?;
            let is_changed = change(&mut table);
            if is_changed {
                let put = call(reqwest::Method::PUT).json(&table).send().await?;
                accepted(put).await?;
            }
            Ok(is_changed)
        }

        /// The server, started in the background where none runs.
        pub(crate) async fn ensure_running(&self) -> anyhow::Result<RelayServer> {
            self.ensure_running_with([]).await
        }

        /// The server; one that has to be started gets these variables too.
        pub(crate) async fn ensure_running_with(
            &self,
            variables: impl IntoIterator<Item = (&str, &str)>,
        ) -> anyhow::Result<RelayServer> {
            let program = std::env::current_exe().context("can't find this program's own file")?;
            let mut command = Command::new(program);
            command.args(["local", "serve", "--detached"]);
            command.envs(variables);
            // This shell's settings are its own; the server serves others too.
            command.env("GOAT_STATE_DIR", &self.root);
            if std::env::var_os(crate::LOG_FILTER).is_none() {
                // Its log is a file that is read when something has gone wrong.
                command.env(crate::LOG_FILTER, SERVER_LOG);
            }
            let handle = daemon::ensure_running(&StateDir::new(&self.root), command).await?;
            Ok(RelayServer {
                url: handle.url,
                token_id: handle.token.id,
                token_secret: Secret::new(handle.token.secret.expose()),
            })
        }

        /// Whether one ever ran here: else there is nothing that could be deployed.
        pub(crate) fn has_ever_run(&self) -> bool {
            StateDir::new(&self.root).lock().exists()
        }

        /// Whether it runs and answers.
        pub(crate) async fn is_running(&self) -> bool {
            daemon::status(&StateDir::new(&self.root)).await.is_ok_and(|status| status.is_some())
        }

        /// Its process, where it runs.
        pub(crate) async fn pid(&self) -> anyhow::Result<Option<i32>> {
            let status = daemon::status(&StateDir::new(&self.root)).await?;
            Ok(status.map(|status| status.pid))
        }

        /// What it took in place of these images, in sentences.
        pub(crate) async fn substituted(&self, images: &[String]) -> Vec<String> {
            let Ok(Some(status)) = daemon::status(&StateDir::new(&self.root)).await else {
                return Vec::new();
            };
            super::about(images, status.substituted)
        }
    }
}

/// The sentences that are about one of these images: each begins with the image it is about.
fn about(images: &[String], sentences: Vec<String>) -> Vec<String> {
    let is_meant = |sentence: &String| {
        let told = |image: &String| {
            sentence.strip_prefix(image.as_str()).is_some_and(|rest| rest.starts_with(": "))
        };
        images.iter().any(told)
    };
    sentences.into_iter().filter(is_meant).collect()
}

#[cfg(not(target_os = "linux"))]
impl LocalServer {
    pub(crate) async fn ensure_running(&self) -> anyhow::Result<RelayServer> {
        anyhow::bail!(
            "the local target isolates sandboxes with Linux namespaces: use --target modal, or run this \
             in a Linux machine or container"
        )
    }

    pub(crate) async fn substitute(&self, _: Substitution) -> anyhow::Result<()> {
        Ok(())
    }

    pub(crate) async fn forget_substitution(&self, _: &str) -> anyhow::Result<bool> {
        Ok(false)
    }

    pub(crate) fn has_ever_run(&self) -> bool {
        false
    }

    pub(crate) async fn is_running(&self) -> bool {
        false
    }

    pub(crate) async fn pid(&self) -> anyhow::Result<Option<i32>> {
        Ok(None)
    }

    pub(crate) async fn substituted(&self, images: &[String]) -> Vec<String> {
        about(images, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_run_s_image_is_told() {
        let sentences = ["python:3.11: made here", "python:3.11-alpine: made here", "debian: too"];
        let told = about(&["python:3.11".to_owned()], sentences.map(str::to_owned).to_vec());
        assert_eq!(told, ["python:3.11: made here"]);
        assert!(about(&[], vec!["debian: too".to_owned()]).is_empty());
    }
}
