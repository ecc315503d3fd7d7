//! What the model is told about its work: files of this directory, identified by hash in every transcript.

use sha2::{Digest, Sha256};

/// Instructions for a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SystemPrompt {
    /// The file's name.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

/// The usual one.
pub const SYSTEM: SystemPrompt =
    SystemPrompt { name: "system.md", text: include_str!("system.md") };

/// A few lines, for small models that lose the thread in long instructions.
pub const BRIEF: SystemPrompt = SystemPrompt { name: "brief.md", text: include_str!("brief.md") };

impl SystemPrompt {
    /// SHA-256 of the file in hex.
    pub fn sha256(&self) -> String {
        Sha256::digest(self.text).iter().map(|byte| format!("{byte:02x}")).collect()
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
}
