//! What the model is told about its work: files of this directory, identified by hash in every transcript.

use std::{borrow::Cow, io, path::Path};

use sha2::{Digest, Sha256};

/// Counts the versions of this directory's files: one more with every change of their text.
pub const VERSION: u32 = 4;

/// Instructions for a model.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemPrompt {
    /// The file's name, or the path of a user's own.
    pub name: Cow<'static, str>,
    /// [`VERSION`]; none for a user's own.
    pub version: Option<u32>,
    /// The file's text.
    pub text: Cow<'static, str>,
}

/// The usual one.
pub const SYSTEM: SystemPrompt = built_in("system.md", include_str!("system.md"));

/// A few lines, for small models that lose the thread in long instructions.
pub const BRIEF: SystemPrompt = built_in("brief.md", include_str!("brief.md"));

const fn built_in(name: &'static str, text: &'static str) -> SystemPrompt {
    SystemPrompt { name: Cow::Borrowed(name), version: Some(VERSION), text: Cow::Borrowed(text) }
}

impl SystemPrompt {
    /// A user's own, from a file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        Ok(SystemPrompt {
            name: path.display().to_string().into(),
            version: None,
            text: text.into(),
        })
    }

    /// SHA-256 of the file in hex.
    pub fn sha256(&self) -> String {
        Sha256::digest(self.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is sent: the file, then where the work takes place.
    pub fn render(&self, cwd: &str) -> String {
        format!("{}\n\nWorking directory: {cwd}\n", self.text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_known_by_its_hash() {
        assert_eq!(SYSTEM.sha256().len(), 64);
        assert_ne!(SYSTEM.sha256(), BRIEF.sha256());
        assert!(BRIEF.text.len() < SYSTEM.text.len() / 2);
        assert!(SYSTEM.render("/w").ends_with("\n\nWorking directory: /w\n"));
    }

    #[test]
    fn a_changed_text_has_a_new_version() {
        let hashes = [SYSTEM.sha256(), BRIEF.sha256()].map(|hash| hash[..16].to_owned());
        let known = (4, ["a038f2c3c485d341", "3132d5eae3957bc0"].map(String::from));
        assert_eq!((VERSION, hashes), known, "count VERSION up when a text changes");
    }
}
