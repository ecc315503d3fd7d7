//! The tags of a sandbox: small labels that lists are filtered by.

use std::collections::BTreeMap;

use modal_proto::client::SandboxTag;

use crate::error::{Error, Result};

/// The longest name or value, in bytes.
const MAX_LENGTH: usize = 256;
/// More than anybody needs, few enough to store.
const MAX_COUNT: usize = 64;

/// Names and values, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tags(BTreeMap<String, String>);

impl Tags {
    pub(crate) fn new(tags: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let tags: BTreeMap<_, _> = tags.into_iter().collect();
        if tags.len() > MAX_COUNT {
            return Err(Error::invalid(format!("more than {MAX_COUNT} tags")));
        }
        for (name, value) in &tags {
            check(name, value)?;
        }
        Ok(Self(tags))
    }

    pub(crate) fn from_wire(tags: Vec<SandboxTag>) -> Result<Self> {
        Self::new(tags.into_iter().map(|tag| (tag.tag_name, tag.tag_value)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn to_wire(&self) -> Vec<SandboxTag> {
        let tag = |(name, value): (&str, &str)| SandboxTag {
            tag_name: name.to_owned(),
            tag_value: value.to_owned(),
        };
        self.iter().map(tag).collect()
    }
}

fn check(name: &str, value: &str) -> Result<()> {
    let too_long = name.len().max(value.len()) > MAX_LENGTH;
    if name.is_empty() || too_long || name.contains(char::is_control) || value.contains('\0') {
        let shown: String = name.chars().take(MAX_LENGTH).collect();
        let rule = format!("names and values have at most {MAX_LENGTH} bytes and no control codes");
        return Err(Error::invalid(format!("tag {shown:?} cannot be kept: {rule}")));
    }
    Ok(())
}
