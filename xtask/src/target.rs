//! Modal, or this machine: which of them, and why.

use std::path::PathBuf;

use clap::ValueEnum;
use modal_client::{Config, Environ};

use crate::exit::UsageError;

/// Where sandboxes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Modal's servers; costs money
    Modal,
    /// This machine, by a Modal-compatible server in the background; needs Linux
    Local,
}

impl Target {
    /// The name on the command line and in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Modal => "modal",
            Self::Local => "local",
        }
    }
}

/// A target with the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What was taken.
    pub(crate) target: Target,
    /// Why, for people.
    pub(crate) why: String,
}

/// What the choice looks at.
pub(crate) trait Surroundings {
    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<String>;
    /// The home directory: of the environment, else of the user's account.
    fn home(&self) -> Option<PathBuf>;
    /// Whether `~/.modal.toml` names a token, or can't be understood: then it must be looked at.
    fn has_token_file(&self) -> bool;
}

/// This process's.
pub(crate) struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
    }

    fn has_token_file(&self) -> bool {
        let is_file = |home: PathBuf| home.join(".modal.toml").is_file();
        let config = || Config::from_env_and_file(&Environ::from_pairs(std::env::vars()));
        let has_token = || config().map_or(true, |config| config.has_token());
        self.home().is_some_and(is_file) && has_token()
    }
}

/// `--target`, then GOAT_TARGET, then `modal` where a token or a server is configured, else `local`.
pub(crate) fn choose(
    flag: Option<Target>,
    around: &impl Surroundings,
) -> Result<Choice, UsageError> {
    let choice = |target, why: &str| Ok(Choice { target, why: why.to_owned() });
    if let Some(target) = flag {
        return choice(target, "--target");
    }
    if let Some(name) = around.variable("GOAT_TARGET") {
        let target = Target::from_str(&name, false).map_err(|_| {
            UsageError(format!("GOAT_TARGET is `{name}`; it can be `modal` or `local`"))
        })?;
        return choice(target, "GOAT_TARGET");
    }
    for name in ["MODAL_SERVER_URL", "MODAL_TOKEN_ID", "MODAL_CONFIG_PATH"] {
        if around.variable(name).is_some() {
            return choice(Target::Modal, &format!("{name} is set"));
        }
    }
    if around.has_token_file() {
        return choice(Target::Modal, "~/.modal.toml has a token");
    }
    choice(Target::Local, "no Modal token is configured")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(&'static [(&'static str, &'static str)], bool);

    impl Surroundings for Fake {
        fn variable(&self, name: &str) -> Option<String> {
            self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        }

        fn home(&self) -> Option<PathBuf> {
            None
        }

        fn has_token_file(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn the_order_of_choice() {
        let token = &[("MODAL_TOKEN_ID", "ak-1")];
        let named = &[("MODAL_TOKEN_ID", "ak-1"), ("GOAT_TARGET", "local")];
        let choices = [
            choose(Some(Target::Local), &Fake(token, true)),
            choose(None, &Fake(named, true)),
            choose(None, &Fake(token, false)),
            choose(None, &Fake(&[], true)),
            choose(None, &Fake(&[], false)),
        ];
        let taken: Vec<_> = choices
            .into_iter()
            .map(|choice| choice.map(|choice| format!("{}: {}", choice.target.name(), choice.why)))
            .map(Result::unwrap)
            .collect();
        insta::assert_snapshot!(taken.join("\n"), @r"
        local: --target
        local: GOAT_TARGET
        modal: MODAL_TOKEN_ID is set
        modal: ~/.modal.toml has a token
        local: no Modal token is configured
        ");
        assert!(choose(None, &Fake(&[("GOAT_TARGET", "cloud")], false)).is_err());
    }
}
