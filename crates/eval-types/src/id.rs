//! Names of runs, tasks and trials, checked once, when they are made.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Variant;

/// A text that can't be an id.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("`{text}` is no {kind} id: {reason}")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

/// Longest id, so that it stays a file name with a suffix.
const LONGEST: usize = 120;

/// Ids become file names and path segments of a volume, so they are plain.
fn check(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let reason = if text.is_empty() {
        "it is empty"
    } else if text.len() > LONGEST {
        "it is longer than 120 characters"
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "it must start with a letter or a digit"
    } else if !text.chars().all(plain) {
        "only letters, digits, `-`, `_` and `.` are allowed"
    } else {
        return Ok(());
    };
    Err(InvalidId { kind, text: text.to_owned(), reason })
}

macro_rules! text_id {
    ($name:ident, $kind:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check($kind, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                check($kind, &text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_id!(RunId, "run", "One run: the top directory of its results.");
text_id!(TaskId, "task", "One task of a benchmark.");

impl RunId {
    /// A new id: `YYYYMMDD_HHMMSS` in UTC and four random characters, since several machines may
    /// start runs on one volume in the same second. Ids sort by time.
    pub fn new(now: Timestamp) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut random = [0u8; 4];
        // Without randomness the time alone still names the run; the index refuses a second one.
        let suffix: String = match getrandom::fill(&mut random) {
            Ok(()) => {
                random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
            }
            Err(_) => format!("{:04}", now.subsec_nanosecond().unsigned_abs() / 100_000),
        };
        Self(format!("{}_{suffix}", now.strftime("%Y%m%d_%H%M%S")))
    }
}

/// Which trial of a run: a task, a variant and a repetition counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrialKey {
    /// The task.
    pub task: TaskId,
    /// What the agent was given.
    pub variant: Variant,
    /// The repetition, from 1.
    pub epoch: u32,
}

impl TrialKey {
    /// The first repetition of a task in a variant.
    pub fn new(task: TaskId, variant: Variant) -> Self {
        Self { task, variant, epoch: 1 }
    }
}

/// The trial's file name without its ending: `<task>-<variant>`, later repetitions with `-<n>`.
impl fmt::Display for TrialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}-{}", self.task, self.variant);
        if self.epoch > 1 {
            text = format!("{text}-{}", self.epoch);
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_the_time_in_utc_and_unique() {
        let now: Timestamp = "2026-11-24T04:05:06+01:00".parse().unwrap();
        let first = RunId::new(now);
        assert!(first.as_str().starts_with("20261124_030506_"), "{first}");
        assert_ne!(first, RunId::new(now));
        assert_eq!(first.as_str().parse::<RunId>().unwrap(), first);
    }

    #[test]
    fn ids_that_could_leave_their_directory_are_refused() {
        for text in ["", "..", "a/b", "-x", ".hidden", "a b", "é", "a\n"] {
            assert!(text.parse::<TaskId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_trial_is_named_as_its_file() {
        let task: TaskId = "grep-search".parse().unwrap();
        let key = TrialKey::new(task, Variant::SkillsMcp);
        assert_eq!(key.to_string(), "grep-search-skills-mcp");
        assert_eq!(TrialKey { epoch: 3, ..key }.to_string(), "grep-search-skills-mcp-3");
    }
}
