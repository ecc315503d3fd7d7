//! `local substitute`: what the server builds instead of an image that this machine can't have.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::{
    context::Context,
    exit::{Exit, UsageError},
    local_server::{LocalServer, Substitution},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The image as it is asked for, tag included, such as alpine:3.21
    image: String,
    /// The image to begin with instead, one that is made here, such as debian:bookworm-slim
    #[arg(long, value_name = "IMAGE", required_unless_present_any = ["dockerfile", "remove"])]
    by: Option<String>,
    /// A Dockerfile to build instead, without files of a context
    #[arg(long, value_name = "FILE", conflicts_with_all = ["by", "remove"])]
    dockerfile: Option<PathBuf>,
    /// Why, as every build that uses it says
    #[arg(long, default_value = "asked for by `cargo xtask local substitute`")]
    reason: String,
    /// Forget what was said of this image
    #[arg(long, conflicts_with = "by")]
    remove: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let server = LocalServer::of(context);
    let Args { image, by, dockerfile, reason, remove } = args;
    if remove {
        let was_there = server.forget_substitution(&image).await?;
        context.printer.json(&json!({"removed": was_there}))?;
        context.printer.text(if was_there { "removed" } else { "nothing was said of this image" });
        return Ok(Exit::Ok);
    }
    let dockerfile_commands = match (by, dockerfile) {
        (_, Some(path)) => commands(&path)?,
        (Some(by), None) => vec![format!("FROM {by}")],
        (None, None) => return Err(UsageError("--by or --dockerfile is missing".into()).into()),
    };
    let instead = dockerfile_commands.first().cloned().unwrap_or_default();
    let wanted = Substitution { matches: image.clone(), dockerfile_commands, reason };
    let said = json!({"image": image, "instead": wanted.dockerfile_commands});
    server.substitute(wanted).await?;
    context.printer.json(&said)?;
    context.printer.text(&format!("{image} → {instead}"));
    Ok(Exit::Ok)
}

/// The lines of a Dockerfile, from its `FROM` on.
fn commands(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the Dockerfile {}", path.display()))?;
    let is_from = |line: &&str| line.trim_start().to_ascii_uppercase().starts_with("FROM ");
    let mut lines = text.lines().skip_while(|line| !is_from(line)).map(str::to_owned).peekable();
    if lines.peek().is_none() {
        return Err(UsageError(format!("{} has no FROM line", path.display())).into());
    }
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_begins_with_its_from_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Dockerfile");
        std::fs::write(&path, "# syntax\n\nfrom debian:bookworm-slim\nRUN true \\\n  && true\n")
            .unwrap();
        let lines = ["from debian:bookworm-slim", "RUN true \\", "  && true"];
        assert_eq!(commands(&path).unwrap(), lines);
        std::fs::write(&path, "RUN true\n").unwrap();
        assert!(commands(&path).unwrap_err().to_string().contains("no FROM line"));
        assert!(commands(&directory.path().join("none")).is_err());
    }
}
