//! What all named objects share: how they are created, how they are called, how lists are paged.

use modal_proto::client::{ListPagination, ObjectCreationType};

use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{AppId, is_id};

/// Longest name of an object.
const MAX_NAME: usize = 64;
/// Most items of a page.
const MAX_PAGE: i64 = 100;
/// How long an object lives without a heartbeat; clients send one every five minutes.
const EPHEMERAL_LIFE: f64 = 15.0 * 60.0;
/// How long secrets and mounts without name and app live: no call keeps those alive.
const UNKEPT_LIFE: f64 = 7.0 * 86_400.0;

/// What a `*GetOrCreate` call is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Creation {
    /// Find it by name; it is an error if it does not exist.
    LookUp(String),
    /// Find it by name or make it.
    IfMissing(String),
    /// Make it; it is an error if the name is taken.
    FailIfExists(String),
    /// Make it, or replace what it holds.
    Overwrite(String),
    /// Make one without a name that ends with its app.
    Anonymous(AppId),
    /// Make one without a name that ends when nobody asks for it any more.
    Ephemeral,
}

impl Creation {
    /// From the fields that these requests share.
    pub(crate) fn from_request(kind: i32, name: &str, app_id: &str) -> Result<Self> {
        let kind = ObjectCreationType::try_from(kind)
            .map_err(|_| Error::invalid(format!("unknown object creation type {kind}")))?;
        let named = || check_name(name).map(|()| name.to_owned());
        Ok(match kind {
            ObjectCreationType::Unspecified => Self::LookUp(name.to_owned()),
            ObjectCreationType::CreateIfMissing => Self::IfMissing(named()?),
            ObjectCreationType::CreateFailIfExists => Self::FailIfExists(named()?),
            ObjectCreationType::CreateOverwriteIfExists => Self::Overwrite(named()?),
            ObjectCreationType::AnonymousOwnedByApp => Self::Anonymous(AppId::parse(app_id)?),
            ObjectCreationType::Ephemeral => Self::Ephemeral,
        })
    }

    /// The name, for the kinds that have one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::LookUp(name)
            | Self::IfMissing(name)
            | Self::FailIfExists(name)
            | Self::Overwrite(name) => Some(name),
            Self::Anonymous(_) | Self::Ephemeral => None,
        }
    }

    /// The app that owns the object, if one does.
    pub(crate) fn owner(&self) -> Option<&AppId> {
        match self {
            Self::Anonymous(app) => Some(app),
            _ => None,
        }
    }

    /// When the object ends unless a heartbeat comes, for kinds of objects that have heartbeats.
    pub(crate) fn expiry(&self) -> Option<f64> {
        (*self == Self::Ephemeral).then(heartbeat_expiry)
    }

    /// When the object ends, for kinds of objects that have no heartbeats.
    pub(crate) fn unkept_expiry(&self) -> Option<f64> {
        (*self == Self::Ephemeral).then(|| clock::now() + UNKEPT_LIFE)
    }
}

/// Until when a heartbeat now keeps an object.
pub(crate) fn heartbeat_expiry() -> f64 {
    clock::now() + EPHEMERAL_LIFE
}

/// Letters, digits, `-`, `_` and `.`; 1 to 64 of them; not like an app's id.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        let shown: String = name.chars().take(MAX_NAME).collect();
        return Err(Error::invalid(format!(
            "invalid name {shown:?}: use 1 to 64 letters, digits, `-`, `_` and `.`"
        )));
    }
    if is_id(name, AppId::PREFIX) && name.len() == AppId::PREFIX.len() + 22 {
        return Err(Error::invalid(format!("invalid name `{name}`: it looks like an app's id")));
    }
    Ok(())
}

/// Which part of a list is asked for: newest first, strictly older than a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Page {
    pub(crate) limit: i64,
    pub(crate) created_before: f64,
}

impl Page {
    pub(crate) fn from_request(pagination: Option<ListPagination>) -> Self {
        let pagination = pagination.unwrap_or_default();
        let limit = match i64::from(pagination.max_objects) {
            asked @ 1..=MAX_PAGE => asked,
            _ => MAX_PAGE,
        };
        let created_before =
            if pagination.created_before > 0.0 { pagination.created_before } else { f64::MAX };
        Self { limit, created_before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects() {
        for good in ["a", "goat-results", "A_b.9", &"x".repeat(64)] {
            check_name(good).unwrap();
        }
        let long = "x".repeat(65);
        for bad in ["", "a/b", "..\0", "ä", "a b", &long, "ap-0123456789012345678901"] {
            check_name(bad).unwrap_err();
        }
    }

    #[test]
    fn a_page_is_never_larger_than_100() {
        let page = |max_objects, created_before| {
            Page::from_request(Some(ListPagination { max_objects, created_before }))
        };
        assert_eq!(page(5, 10.0), Page { limit: 5, created_before: 10.0 });
        assert_eq!(page(-5, 10.0).limit, 100);
        assert_eq!(page(5_000, 0.0), Page { limit: 100, created_before: f64::MAX });
    }
}
