//! What an image says about the programs run in it, and how instructions change that.

use serde::{Deserialize, Serialize};

use super::recipe::{Command, HereDocument, Problem, words};

/// Where programs are looked for when an image says nothing else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The settings of an image apart from its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    /// In the order in which they were set.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) workdir: Option<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    /// What runs a command that is one line of text.
    pub(crate) shell: Vec<String>,
    /// For `RUN` alone: sandboxes start as root, as on Modal.
    pub(crate) user: Option<String>,
    /// The Python series, where the base says it.
    pub(crate) python: Option<String>,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            env: vec![("PATH".to_owned(), PATH.to_owned())],
            workdir: None,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            shell: vec!["/bin/sh".to_owned(), "-c".to_owned()],
            user: None,
            python: None,
        }
    }
}

impl ImageConfig {
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn set_variable(&mut self, name: &str, value: String) {
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.env.push((name.to_owned(), value)),
        }
    }

    /// `path` seen from the working directory, without `.` and `..`.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let base = if path.starts_with('/') { "/" } else { self.workdir.as_deref().unwrap_or("/") };
        let mut parts: Vec<&str> = Vec::new();
        for part in base.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    pub(crate) fn set_command(&mut self, command: &Command) {
        self.cmd = command.argv(&self.shell);
    }

    /// An entry point makes an inherited command void: it was meant for another program.
    pub(crate) fn set_entrypoint(&mut self, command: &Command, keep_cmd: bool) {
        self.entrypoint = command.argv(&self.shell);
        if !keep_cmd {
            self.cmd.clear();
        }
    }
}

/// The variables that instructions see: the image's environment, and build arguments below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    values: Vec<(String, String)>,
}

impl Arguments {
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.values.retain(|(known, _)| known != name);
        self.values.push((name.to_owned(), value));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All of them, for the environment of `RUN`.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.values.iter()
    }

    /// What a variable is worth: the image's environment wins over an argument.
    fn value(&self, name: &str, config: &ImageConfig) -> Option<String> {
        config.variable(name).or_else(|| self.get(name)).map(str::to_owned)
    }

    /// `word` with quotes removed and variables replaced.
    pub(crate) fn expand(&self, word: &str, config: &ImageConfig) -> Result<String, Problem> {
        words::expand(word, &|name| self.value(name, config))
    }

    /// The text of a here-document with variables replaced, unless its name was quoted.
    pub(crate) fn expand_document(
        &self,
        document: &HereDocument,
        config: &ImageConfig,
    ) -> Result<String, Problem> {
        document.expanded(&|name| self.value(name, config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_working_directory() {
        let mut config = ImageConfig::default();
        assert_eq!(config.absolute("a"), "/a");
        config.workdir = Some("/opt/x".to_owned());
        let cases = [(".", "/opt/x"), ("../y/", "/opt/y"), ("/z", "/z"), ("../../../..", "/")];
        for (path, expected) in cases {
            assert_eq!(config.absolute(path), expected, "{path}");
        }
    }

    #[test]
    fn the_environment_wins_over_an_argument_of_the_same_name() {
        let mut arguments = Arguments::default();
        arguments.set("A", "argument".to_owned());
        arguments.set("B", "argument".to_owned());
        let mut config = ImageConfig::default();
        config.set_variable("A", "environment".to_owned());
        assert_eq!(arguments.expand("$A $B", &config).as_deref(), Ok("environment argument"));
    }

    #[test]
    fn an_entry_point_resets_an_inherited_command() {
        let mut config = ImageConfig::default();
        config.set_command(&Command::Shell("sleep 1".to_owned()));
        assert_eq!(config.cmd, ["/bin/sh", "-c", "sleep 1"]);
        config.set_entrypoint(&Command::Exec(Vec::new()), true);
        assert_eq!(config.cmd.len(), 3);
        config.set_entrypoint(&Command::Exec(Vec::new()), false);
        assert!(config.cmd.is_empty() && config.entrypoint.is_empty());
    }

    #[test]
    fn the_stored_form() {
        insta::assert_json_snapshot!(ImageConfig::default());
    }
}
